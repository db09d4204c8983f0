//! Sums and functions (docs/numerics.md 1 and 4). Everything here is inlined into the kernels.

/// Lanes of a dot product.
pub const LANES: usize = 16;

/// Folds 16 lanes: +8, +4, +2, +1.
#[inline(always)]
pub fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `Σ a·b` in 16 lanes.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for j in 0..LANES {
            lanes[j] = a[j].mul_add(b[j], lanes[j]);
        }
    }
    for (j, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[j] = a.mul_add(*b, lanes[j]);
    }
    fold(lanes)
}

/// `Σ x` in 16 lanes.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for j in 0..LANES {
            lanes[j] += x[j];
        }
    }
    for (j, x) in rest.iter().enumerate() {
        lanes[j] += x;
    }
    fold(lanes)
}

/// `1 / sqrt(Σx² / n + eps)`
#[inline(always)]
pub fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// e^x to 1 ulp; 0 below -87, so that nothing is ever subnormal. Coefficients: SLEEF (Boost licence).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    /// Adding it leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let t = x.clamp(-87.0, 88.722_83);
    let shifted = t * LOG2_E + ROUND;
    let q = shifted - ROUND;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let s = q.mul_add(-0.693_145_75, t);
    let s = q.mul_add(-1.428_606_8e-6, s);
    let mut p = 0.000_198_527_62f32;
    for c in [0.001_393_043_6, 0.008_333_361, 0.041_666_485, 0.166_666_67, 0.5] {
        p = p.mul_add(s, c);
    }
    let half = n >> 1;
    let y = (1.0 + (s * s).mul_add(p, s)) * power_of_two(half) * power_of_two(n.wrapping_sub(half));
    if x < -87.0 {
        0.0
    } else if x > 88.722_83 {
        f32::INFINITY
    } else {
        y
    }
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x · sigmoid(x)`
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `ln(1 + e^x)`
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let rest = log1p(exp(-x.abs()));
    if x > 0.0 { x + rest } else { 0.0 + rest }
}

/// `ln(1 + u)` for 0 <= u <= 1, by 2 artanh(u / (2 + u)).
#[inline(always)]
fn log1p(u: f32) -> f32 {
    let s = u / (2.0 + u);
    let z = s * s;
    let t = 2.0 * s;
    let mut p = 1.0f32 / 17.0;
    for odd in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        p = p.mul_add(z, 1.0 / odd);
    }
    (t * z).mul_add(p, t)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error over `xs` in units of the last place.
    fn worst_ulp(xs: impl Iterator<Item = f32>, f: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> f64 {
        xs.map(|x| {
            let want = truth(x as f64);
            let ulp = (want as f32).abs().next_up() as f64 - (want as f32).abs() as f64;
            (f(x) as f64 - want).abs() / ulp
        })
        .fold(0.0, f64::max)
    }

    fn range(from: f32, to: f32, steps: usize) -> impl Iterator<Item = f32> {
        (0..=steps).map(move |i| from + (to - from) * i as f32 / steps as f32)
    }

    #[test]
    fn functions_are_right_to_about_an_ulp() {
        assert!(worst_ulp(range(-86.9, 88.7, 400_000), exp, f64::exp) < 1.0);
        assert!(worst_ulp(range(-80.0, 80.0, 400_000), sigmoid, |x| 1.0 / (1.0 + (-x).exp())) < 3.0);
        assert!(worst_ulp(range(-30.0, 30.0, 400_000), softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()) < 3.0);
    }

    #[test]
    fn functions_keep_their_limits() {
        assert_eq!([exp(0.0), exp(-87.1), exp(f32::NEG_INFINITY), exp(89.0)], [1.0, 0.0, 0.0, f32::INFINITY]);
        assert!(exp(f32::NAN).is_nan() && softplus(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
        assert_eq!([sigmoid(200.0), sigmoid(-200.0), softplus(300.0), softplus(-300.0)], [1.0, 0.0, 300.0, 0.0]);
        assert_eq!(softplus(0.0), std::f32::consts::LN_2);
    }

    #[test]
    fn sums_use_sixteen_lanes_and_a_tree() {
        // 2^24 swallows a 1 that is added to it, but not one that waits in another lane.
        let mut x = vec![0.0; 33];
        (x[0], x[1], x[16], x[32]) = (16_777_216.0, 1.0, 1.0, 1.0);
        assert_eq!(sum(&x), 16_777_216.0, "the ones of lane 0 are lost one by one");
        (x[16], x[17]) = (0.0, 1.0);
        assert_eq!(sum(&x), 16_777_218.0, "the ones of lane 1 meet first");
        assert_eq!(dot(&x, &[1.0; 33]), sum(&x));
    }
}
