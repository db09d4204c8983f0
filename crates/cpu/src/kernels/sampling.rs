//! What drawing a token computes for the whole vocabulary (docs/numerics.md 8).

use super::math::exp;

kernel! {
/// `weights[i] = exp((logits[i] - max) / temperature)`
pub fn weights(logits: &[f32], max: f32, temperature: f32, weights: &mut [f32]) {
    for (weight, l) in weights.iter_mut().zip(logits) {
        *weight = exp((l - max) / temperature);
    }
}
}
