//! Rotary position embedding: frequency tables and the sine and cosine of an angle, the same on every machine.

use crate::shape::{Shape, Yarn};

/// Which of the model's two frequency tables a layer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeTable {
    /// Layers without compression, and the MTP block: base 10000, no scaling.
    Main,
    /// Layers with compression: base 160000, YaRN-scaled.
    Compressed,
}

/// Rotation frequencies of a model: one value per channel pair, radians per position.
#[derive(Clone, Debug)]
pub struct Frequencies {
    /// `[rope_dim / 2]`
    pub main: Vec<f32>,
    /// `[rope_dim / 2]`
    pub compressed: Vec<f32>,
}

impl Frequencies {
    /// The two tables of `shape`.
    pub fn new(shape: &Shape) -> Self {
        Self {
            main: plain(shape.rope_base, shape.rope_dim),
            compressed: yarn(plain(shape.compress_rope_base, shape.rope_dim), shape.compress_rope_base, &shape.yarn),
        }
    }

    /// The table `which`.
    pub fn table(&self, which: RopeTable) -> &[f32] {
        match which {
            RopeTable::Main => &self.main,
            RopeTable::Compressed => &self.compressed,
        }
    }
}

/// `1 / base^(2i / dim)` for i < dim / 2; the power is rounded once to f32.
fn plain(base: f32, dim: usize) -> Vec<f32> {
    (0..dim / 2).map(|i| 1.0 / libm::pow(base as f64, (2 * i) as f64 / dim as f64) as f32).collect()
}

/// YaRN: pairs that turn often keep their frequency, slow ones are divided by `factor`, with a linear ramp between.
/// The magnitude is not scaled.
fn yarn(mut frequencies: Vec<f32>, base: f32, yarn: &Yarn) -> Vec<f32> {
    if yarn.factor <= 1.0 {
        return frequencies;
    }
    let dim = 2 * frequencies.len();
    let turns = |beta: f32| {
        let wavelength = yarn.original_context as f64 / (beta as f64 * 2.0 * std::f64::consts::PI);
        dim as f64 * libm::log(wavelength) / (2.0 * libm::log(base as f64))
    };
    let low = turns(yarn.beta_fast).floor().max(0.0) as f32;
    let high = turns(yarn.beta_slow).ceil().min((dim - 1) as f64) as f32;
    let span = if high > low { high - low } else { 0.001 };
    for (i, f) in frequencies.iter_mut().enumerate() {
        let t = ((i as f32 - low) / span).clamp(0.0, 1.0);
        *f = *f / yarn.factor * t + *f * (1.0 - t);
    }
    frequencies
}

/// Sine and cosine of `position * frequency` (the product rounded to f32).
pub fn sin_cos(position: u32, frequency: f32) -> (f32, f32) {
    let angle = (position as f32 * frequency) as f64;
    // Reduce by multiples of pi/2, whose high part has 33 bits so that turns * HIGH is exact.
    const HIGH: f64 = f64::from_bits(0x3FF9_21FB_5440_0000);
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let turns = (angle * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = (angle - turns * HIGH) - turns * LOW;
    let (sin, cos) = (sin_near_zero(r), cos_near_zero(r));
    let (sin, cos) = match (turns as i64) & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    };
    (sin as f32, cos as f32)
}

/// |x| <= pi/4. Minimax coefficients of ARM's optimized routines (MIT), good to 0.56 ulp of f32.
fn sin_near_zero(x: f64) -> f64 {
    const S1: f64 = f64::from_bits(0xBFC5_5554_5995_A603);
    const S2: f64 = f64::from_bits(0x3F81_1076_0523_0BC4);
    const S3: f64 = f64::from_bits(0xBF29_94EB_3774_CF24);
    let x2 = x * x;
    let x3 = x * x2;
    (x + x3 * S1) + (x3 * x2) * (S2 + x2 * S3)
}

/// |x| <= pi/4, as [`sin_near_zero`].
fn cos_near_zero(x: f64) -> f64 {
    const C1: f64 = f64::from_bits(0xBFDF_FFFF_FD0C_621C);
    const C2: f64 = f64::from_bits(0x3FA5_5553_E106_8F19);
    const C3: f64 = f64::from_bits(0xBF56_C087_E89A_359D);
    const C4: f64 = f64::from_bits(0x3EF9_9343_027B_F8C3);
    let x2 = x * x;
    let x4 = x2 * x2;
    ((1.0 + x2 * C1) + x4 * C2) + (x4 * x2) * (C3 + x2 * C4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_are_right_to_an_ulp_up_to_the_longest_context() {
        for position in [0, 1, 2, 3, 127, 128, 4095, 65_535, 200_000, 1_048_575] {
            for frequency in plain(10000.0, 64) {
                let angle = (position as f32 * frequency) as f64;
                let (sin, cos) = sin_cos(position, frequency);
                for (got, want) in [(sin, libm::sin(angle)), (cos, libm::cos(angle))] {
                    let ulp = (want.abs() as f32).max(f32::MIN_POSITIVE);
                    assert!(
                        (got as f64 - want).abs() <= 0.57 * f64::from(ulp.next_up() - ulp),
                        "{position} {frequency}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_position_of_zero_rotates_nothing() {
        assert_eq!(sin_cos(0, 0.5), (0.0, 1.0));
    }
}
