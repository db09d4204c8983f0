//! Hyper-connections: four residual streams mixed into a sub-layer and back (docs/numerics.md 5).

use super::math::{exp, sigmoid};

const S: usize = 4;

/// What a sub-layer's token does to the streams.
pub struct Mix {
    /// Weight of each stream in the sub-layer's input.
    pub pre: [f32; S],
    /// Weight of the output in each stream.
    pub post: [f32; S],
    /// `comb[j][k]`: what stream j gives to stream k; rows and columns sum to one.
    pub comb: [[f32; S]; S],
}

kernel! {
/// The coefficients from the projected streams `m [24]`; `base [24]`, `scale [3]`.
pub fn coefficients(m: &[f32], scale: &[f32], base: &[f32], eps: f32, iterations: usize) -> Mix {
    let value = |i: usize, s: usize| m[i] * scale[s] + base[i];
    let mut mix = Mix { pre: [0.0; S], post: [0.0; S], comb: [[0.0; S]; S] };
    for i in 0..S {
        mix.pre[i] = sigmoid(value(i, 0)) + eps;
        mix.post[i] = 2.0 * sigmoid(value(S + i, 1));
        for k in 0..S {
            mix.comb[i][k] = value(2 * S + S * i + k, 2);
        }
    }
    sinkhorn(&mut mix.comb, eps, iterations);
    mix
}
}

/// Softmax over rows, then alternating normalisation; columns last.
#[inline(always)]
fn sinkhorn(c: &mut [[f32; S]; S], eps: f32, iterations: usize) {
    for row in c.iter_mut() {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        *row = row.map(|x| exp(x - max));
        let r = 1.0 / sum(*row);
        *row = row.map(|e| e * r + eps);
    }
    normalise_columns(c, eps);
    for _ in 1..iterations {
        for row in c.iter_mut() {
            let total = sum(*row) + eps;
            *row = row.map(|x| x / total);
        }
        normalise_columns(c, eps);
    }
}

#[inline(always)]
fn normalise_columns(c: &mut [[f32; S]; S], eps: f32) {
    for k in 0..S {
        let total = sum([c[0][k], c[1][k], c[2][k], c[3][k]]) + eps;
        for row in c.iter_mut() {
            row[k] /= total;
        }
    }
}

#[inline(always)]
fn sum(x: [f32; S]) -> f32 {
    ((x[0] + x[1]) + x[2]) + x[3]
}

kernel! {
/// The weights of the output head from the projected streams `m [4]`.
pub fn head_weights(m: &[f32], scale: f32, base: &[f32], eps: f32) -> [f32; S] {
    std::array::from_fn(|i| sigmoid(m[i] * scale + base[i]) + eps)
}
}

kernel! {
/// `u = Σ w_s · X_s`; `streams` holds the four streams one after another.
pub fn mix_in(streams: &[f32], weights: &[f32; S], u: &mut [f32]) {
    let d = u.len();
    for (i, u) in u.iter_mut().enumerate() {
        let mut acc = weights[0] * streams[i];
        for s in 1..S {
            acc = weights[s].mul_add(streams[s * d + i], acc);
        }
        *u = acc;
    }
}
}

kernel! {
/// `X'_k = post_k · y + Σ_j comb[j][k] · X_j`, the sum over the first index; `mix` is post, then comb by rows.
pub fn mix_out(y: &[f32], mix: &[f32], streams: &mut [f32]) {
    let d = y.len();
    let (post, comb) = mix.split_at(S);
    for i in 0..d {
        let x: [f32; S] = std::array::from_fn(|j| streams[j * d + i]);
        for k in 0..S {
            let mut acc = post[k] * y[i];
            for j in 0..S {
                acc = comb[S * j + k].mul_add(x[j], acc);
            }
            streams[k * d + i] = acc;
        }
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_matrices_become_doubly_stochastic() {
        let m: Vec<f32> = (0..24).map(|i| ((i * 7) % 11) as f32 / 3.0 - 1.5).collect();
        let mix = coefficients(&m, &[1.0, 1.0, 1.0], &[0.0; 24], 1e-6, 20);
        for i in 0..4 {
            assert!((sum(mix.comb[i]) - 1.0).abs() < 1e-4);
            assert!((sum(std::array::from_fn(|j| mix.comb[j][i])) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn the_output_sum_runs_over_the_first_index() {
        let mut streams = [1.0, 2.0, 3.0, 4.0]; // D = 1
        let mut mix = [0.0; 20];
        mix[4 + 1] = 1.0; // comb[0][1]: stream 0 gives itself to stream 1
        mix_out(&[10.0], &mix, &mut streams);
        assert_eq!(streams, [0.0, 1.0, 0.0, 0.0]);
    }
}
