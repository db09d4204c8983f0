//! How probable tokens are.

use ds4_cpu::kernels::math::exp;

use crate::{Observed, TokenScore};

/// `ln Σ e^l`, from the largest logit and ids in ascending order; NaN counts as nothing.
pub(crate) fn log_sum(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().filter(|l| !l.is_nan()).map(|l| exp(l - max) as f64).sum();
    max as f64 + libm::log(sum)
}

pub(crate) fn score(logits: &[f32], id: u32, log_sum: f64) -> TokenScore {
    let logit = logits[id as usize];
    TokenScore { id, logit, logprob: logit as f64 - log_sum }
}

/// The token drawn and the `count` most probable ones, the lower id first among equals.
pub(crate) fn top(logits: &[f32], drawn: u32, count: usize) -> Observed {
    let log_sum = log_sum(logits);
    let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|id| !logits[*id as usize].is_nan()).collect();
    let better = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if ids.len() > count && count > 0 {
        ids.select_nth_unstable_by(count - 1, better);
    }
    ids.truncate(count);
    ids.sort_unstable_by(better);
    Observed::Top(score(logits, drawn, log_sum), ids.iter().map(|id| score(logits, *id, log_sum)).collect())
}
