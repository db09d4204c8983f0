//! Activations in 8 bits per token and block (docs/numerics.md 2).

kernel! {
/// Quantises one row `x` in blocks of `block` columns: `q ≈ x / d`, one `d` a block.
pub fn quantise(x: &[f32], block: usize, q: &mut [i8], d: &mut [f32]) {
    for ((x, q), d) in x.chunks(block).zip(q.chunks_mut(block)).zip(d) {
        *d = quantise_block(x, q);
    }
}
}

kernel! {
/// Sums of `q` over every 16 columns, for formats whose blocks have a minimum.
pub fn sums_of_16(q: &[i8], sums: &mut [i16]) {
    for (q, sum) in q.as_chunks::<16>().0.iter().zip(sums) {
        let mut s = 0;
        for q in q {
            s += i16::from(*q);
        }
        *sum = s;
    }
}
}

/// Returns d; bit patterns of magnitudes order like the magnitudes, with NaN above infinity.
#[inline(always)]
fn quantise_block(x: &[f32], q: &mut [i8]) -> f32 {
    let mut amax = 0;
    for x in x {
        amax = amax.max(x.to_bits() & 0x7FFF_FFFF);
    }
    let amax = f32::from_bits(amax);
    if amax < 1e-30 || !amax.is_finite() {
        q.fill(0);
        return if amax < 1e-30 { 0.0 } else { f32::NAN };
    }
    let d = amax / 127.0;
    let r = 1.0 / d;
    for (q, x) in q.iter_mut().zip(x) {
        *q = (x * r).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_magnitude_becomes_127_and_halves_go_to_even() {
        let mut q = [0; 4];
        let mut d = [0.0];
        quantise(&[-127.0, 0.5, 1.5, -2.5], 4, &mut q, &mut d);
        assert_eq!((q, d), ([-127, 0, 2, -2], [1.0]));
    }

    #[test]
    fn tiny_blocks_are_zero_and_broken_ones_are_nan() {
        let (mut q, mut d) = ([1; 6], [1.0; 3]);
        quantise(&[1e-31, -1e-31, 1.0, f32::INFINITY, f32::NAN, 0.0], 2, &mut q, &mut d);
        assert_eq!((q, d[0]), ([0; 6], 0.0));
        assert!(d[1].is_nan() && d[2].is_nan());
    }
}
