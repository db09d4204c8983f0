//! RMS norms and rotation (docs/numerics.md 4).

use super::math::{self, dot};

kernel! {
/// `1 / rms(x)`
pub fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    math::inverse_rms(x, eps)
}
}

kernel! {
/// `x = x / rms(x) · w`
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let r = math::inverse_rms(x, eps);
    for (x, w) in x.iter_mut().zip(weight) {
        *x = *x * r * w;
    }
}
}

kernel! {
/// Takes `scale` times the projection on the unit vector `direction` out of `y` (docs/numerics.md 6).
pub fn steer(y: &mut [f32], direction: &[f32], scale: f32) {
    let along = -(scale * dot(direction, y));
    for (y, d) in y.iter_mut().zip(direction) {
        *y = along.mul_add(*d, *y);
    }
}
}

kernel! {
/// `y = x / rms(x) · w`
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let r = math::inverse_rms(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * r * w;
    }
}
}

kernel! {
/// `x = x / rms(x)`
pub fn rms_norm_plain(x: &mut [f32], eps: f32) {
    let r = math::inverse_rms(x, eps);
    for x in x {
        *x *= r;
    }
}
}

/// Which way to turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// By the position.
    Forward,
    /// By minus the position.
    Back,
}

/// Rotates the trailing channels of `x` in interleaved pairs; `angles` holds (sin, cos) of each pair.
#[inline]
pub fn rotate(x: &mut [f32], angles: &[(f32, f32)], turn: Turn) {
    let first = x.len() - 2 * angles.len();
    for (pair, &(sin, cos)) in x[first..].as_chunks_mut::<2>().0.iter_mut().zip(angles) {
        let sin = if turn == Turn::Back { -sin } else { sin };
        let [a, b] = *pair;
        *pair = [a * cos - b * sin, a * sin + b * cos];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_back_undoes_a_turn_and_leaves_the_other_channels() {
        let angles = [(0.6, 0.8), (1.0, 0.0)];
        let mut x = [9.0, 1.0, 0.0, 2.0, 3.0];
        rotate(&mut x, &angles, Turn::Forward);
        assert_eq!(x, [9.0, 0.8, 0.6, -3.0, 2.0]);
        rotate(&mut x, &angles, Turn::Back);
        assert!(x.iter().zip([9.0, 1.0, 0.0, 2.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn steering_takes_a_direction_out_and_nothing_at_scale_zero() {
        let direction = [0.6, 0.8];
        let mut y = [5.0, 10.0]; // 11 along the direction
        steer(&mut y, &direction, 0.0);
        assert_eq!(y, [5.0, 10.0]);
        steer(&mut y, &direction, 1.0);
        assert!(dot(&y, &direction).abs() < 1e-5);
        steer(&mut y, &direction, -2.0); // amplifies what is left: nothing
        assert!(dot(&y, &direction).abs() < 1e-5);
    }

    #[test]
    fn a_norm_has_unit_mean_square() {
        let mut y = [0.0; 2];
        rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut y);
        let rms = 12.5f32.sqrt();
        assert_eq!(y, [3.0 * (1.0 / rms), 4.0 * (1.0 / rms) * 2.0]);
    }
}
