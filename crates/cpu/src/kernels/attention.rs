//! Attention of one token's heads over stored rows (docs/numerics.md 5).

use super::math::{LANES, exp, fold, sum};

/// Heads and rows whose products are summed side by side: as many sums as there are registers for.
const SIDE: usize = 4;
/// Channels of a head's output that are summed side by side.
const CHANNELS: usize = 32;

kernel! {
/// Scores of a block of rows for some heads: `s_hj = dot(q_h, row_j) · scale`. `q [h][d]`, `rows [n][d]`; the scores of
/// head h start at `scores[h · stride]`.
pub fn scores(q: &[f32], rows: &[f32], d: usize, scale: f32, scores: &mut [f32], stride: usize) {
    for (h, q) in q.chunks(SIDE * d).enumerate() {
        for (j, rows) in rows.chunks(SIDE * d).enumerate() {
            let dots = dots(q, rows, d);
            for (i, dots) in dots.iter().enumerate().take(q.len() / d) {
                for (score, dot) in scores[(SIDE * h + i) * stride + SIDE * j..].iter_mut().zip(dots).take(rows.len() / d) {
                    *score = dot * scale;
                }
            }
        }
    }
}
}

/// Dot products of up to [`SIDE`] heads and rows; those that are not there repeat the last one.
#[inline(always)]
fn dots(q: &[f32], rows: &[f32], d: usize) -> [[f32; SIDE]; SIDE] {
    let place = |x: &[f32], i: usize| (d * i).min(x.len() - d);
    let mut lanes = [[[0.0f32; LANES]; SIDE]; SIDE];
    let whole = d / LANES * LANES;
    for c in (0..whole).step_by(LANES) {
        let mut k = [[0.0; LANES]; SIDE];
        for j in 0..SIDE {
            k[j].copy_from_slice(&rows[place(rows, j) + c..][..LANES]);
        }
        for i in 0..SIDE {
            let q = &q[place(q, i) + c..][..LANES];
            for j in 0..SIDE {
                for l in 0..LANES {
                    lanes[i][j][l] = q[l].mul_add(k[j][l], lanes[i][j][l]);
                }
            }
        }
    }
    let mut dots = [[0.0; SIDE]; SIDE];
    for i in 0..SIDE {
        for j in 0..SIDE {
            for l in 0..d - whole {
                let (q, k) = (q[place(q, i) + whole + l], rows[place(rows, j) + whole + l]);
                lanes[i][j][l] = q.mul_add(k, lanes[i][j][l]);
            }
            dots[i][j] = fold(lanes[i][j]);
        }
    }
    dots
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
/// Adds a block of rows to the heads' outputs: `out_h += Σ e_hj · row_j`, j ascending. `rows [n][d]`, `out [h][d]`; the
/// weights of head h start at `weights[h · stride]`.
pub fn accumulate(weights: &[f32], stride: usize, rows: &[f32], d: usize, out: &mut [f32]) {
    let n = rows.len() / d;
    for (h, out) in out.chunks_mut(SIDE * d).enumerate() {
        let heads = out.len() / d;
        let weights = &weights[SIDE * h * stride..];
        let whole = if heads == SIDE { d / CHANNELS * CHANNELS } else { 0 };
        for c in (0..whole).step_by(CHANNELS) {
            let mut sums = [[0.0f32; CHANNELS]; SIDE];
            for i in 0..SIDE {
                sums[i].copy_from_slice(&out[i * d + c..][..CHANNELS]);
            }
            for j in 0..n {
                let row = &rows[j * d + c..][..CHANNELS];
                for i in 0..SIDE {
                    let weight = weights[i * stride + j];
                    for l in 0..CHANNELS {
                        sums[i][l] = weight.mul_add(row[l], sums[i][l]);
                    }
                }
            }
            for i in 0..SIDE {
                out[i * d + c..][..CHANNELS].copy_from_slice(&sums[i]);
            }
        }
        for (i, out) in out.chunks_mut(d).enumerate() {
            for j in 0..n {
                let weight = weights[i * stride + j];
                for c in whole..d {
                    out[c] = weight.mul_add(rows[j * d + c], out[c]);
                }
            }
        }
    }
}
}

#[cfg(test)]
mod tests {
    use super::super::math::dot;
    use super::*;

    #[test]
    fn the_sink_takes_its_share_and_gives_no_value() {
        let mut s = [0.0, 0.0];
        let r = softmax(&mut s, 0.0);
        let mut out = [0.0; 2];
        accumulate(&s, 2, &[3.0, 0.0, 0.0, 6.0], 2, &mut out);
        assert_eq!(out.map(|x| x * r), [3.0 * (1.0 / 3.0), 6.0 * (1.0 / 3.0)]);
    }

    #[test]
    fn heads_and_rows_side_by_side_get_the_bits_of_each_alone() {
        let numbers = |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * step).sin()).collect() };
        for (heads, n, d) in [(1, 1, 1), (4, 4, 64), (5, 7, 40), (6, 3, 100), (8, 9, 33)] {
            let (q, rows) = (numbers(heads * d, 0.7), numbers(n * d, 0.3));
            let mut together = vec![0.0; heads * n];
            scores(&q, &rows, d, 0.5, &mut together, n);
            let mut out = numbers(heads * d, 0.9);
            let before = out.clone();
            accumulate(&together, n, &rows, d, &mut out);
            for h in 0..heads {
                for (j, row) in rows.chunks(d).enumerate() {
                    assert_eq!(together[h * n + j].to_bits(), (dot(&q[h * d..][..d], row) * 0.5).to_bits());
                }
                for c in 0..d {
                    let sum = |sum, j: usize| together[h * n + j].mul_add(rows[j * d + c], sum);
                    assert_eq!(out[h * d + c].to_bits(), (0..n).fold(before[h * d + c], sum).to_bits());
                }
            }
        }
    }
}
