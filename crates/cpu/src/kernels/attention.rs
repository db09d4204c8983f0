//! Attention of one token's heads over stored rows (docs/numerics.md 5).

use super::math::{dot, exp, sum};

kernel! {
/// Scores of a block of rows for one head: `s_j = dot(q, row_j) · scale`. `rows [n][d]`, `scores [n]`.
pub fn scores(q: &[f32], rows: &[f32], scale: f32, scores: &mut [f32]) {
    for (row, score) in rows.chunks(q.len()).zip(scores) {
        *score = dot(q, row) * scale;
    }
}
}

kernel! {
/// Turns all scores of a head into weights `e_j`, in place, and returns 1 / (Σ e_j + exp(sink - m)).
pub fn softmax(scores: &mut [f32], sink: f32) -> f32 {
    let mut max = sink;
    for &s in &*scores {
        max = if s > max { s } else { max };
    }
    for s in &mut *scores {
        *s = exp(*s - max);
    }
    1.0 / (sum(scores) + exp(sink - max))
}
}

kernel! {
/// Adds a block of rows to a head's output: `out += Σ e_j · row_j`, j ascending.
pub fn accumulate(weights: &[f32], rows: &[f32], out: &mut [f32]) {
    for (row, &weight) in rows.chunks(out.len()).zip(weights) {
        for (out, value) in out.iter_mut().zip(row) {
            *out = weight.mul_add(*value, *out);
        }
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_takes_its_share_and_gives_no_value() {
        let mut s = [0.0, 0.0];
        let r = softmax(&mut s, 0.0);
        let mut out = [0.0; 2];
        accumulate(&s, &[3.0, 0.0, 0.0, 6.0], &mut out);
        assert_eq!(out.map(|x| x * r), [3.0 * (1.0 / 3.0), 6.0 * (1.0 / 3.0)]);
    }
}
