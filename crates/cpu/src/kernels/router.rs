//! Expert choice (docs/numerics.md 5).

use super::indexer::better_first;
use super::math::{silu, softplus};

kernel! {
/// Expert scores from router logits, in place.
pub fn scores(logits: &mut [f32]) {
    for x in logits {
        *x = softplus(*x).sqrt();
    }
}
}

/// The experts that the table `[vocab][used]` of little-endian i32 names for a token.
pub fn look_up(table: &[u8], token: usize, picks: &mut [u32]) {
    let row = &table.as_chunks::<4>().0[token * picks.len()..];
    for (pick, bytes) in picks.iter_mut().zip(row) {
        *pick = u32::from_le_bytes(*bytes);
    }
}

/// Chooses the experts with the largest `scores + bias`, best first; the lower expert first among equals.
pub fn choose(scores: &[f32], bias: &[f32], picks: &mut [u32]) {
    for slot in 0..picks.len() {
        let taken = &picks[..slot];
        let free = (0..scores.len()).filter(|e| !taken.contains(&(*e as u32)));
        let best = free.min_by_key(|&e| (better_first(scores[e] + bias[e]), e));
        picks[slot] = best.expect("no more experts are used than there are") as u32;
    }
}

/// Weights of the chosen experts: their scores, normalised, times `scale`.
pub fn weights(scores: &[f32], picks: &[u32], scale: f32, weights: &mut [f32]) {
    let mut sum = 0.0f32;
    for (weight, &pick) in weights.iter_mut().zip(picks) {
        *weight = scores[pick as usize];
        sum += *weight;
    }
    for weight in weights {
        *weight = *weight / (sum + 1e-20) * scale;
    }
}

kernel! {
/// An expert's inner values, in place over `gate`: `silu(min(gate, L)) · clamp(up, ±L) · weight`.
pub fn swiglu(gate: &mut [f32], up: &[f32], clamp: f32, weight: f32) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let g = if *gate > clamp { clamp } else { *gate };
        *gate = silu(g) * up.clamp(-clamp, clamp) * weight;
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bias_chooses_but_does_not_weigh() {
        let scores = [1.0, 3.0, 2.0, 3.0];
        let mut picks = [0; 2];
        choose(&scores, &[5.0, 0.0, 0.0, 0.0], &mut picks);
        assert_eq!(picks, [0, 1]);
        let mut w = [0.0; 2];
        weights(&scores, &picks, 1.5, &mut w);
        assert_eq!(w, [1.0 / 4.0 * 1.5, 3.0 / 4.0 * 1.5]);
    }

    #[test]
    fn a_model_that_breaks_still_chooses_distinct_experts() {
        let mut picks = [0; 3];
        choose(&[f32::NAN; 4], &[0.0; 4], &mut picks);
        assert_eq!(picks, [0, 1, 2]);
    }

    #[test]
    fn gates_are_bounded_above_and_ups_on_both_sides() {
        let mut gate = [100.0, -100.0, 0.5];
        swiglu(&mut gate, &[100.0, 2.0, -100.0], 10.0, 1.0);
        assert_eq!(gate, [silu(10.0) * 10.0, -0.0, silu(0.5) * -10.0]);
    }
}
