//! The compressor's running softmax (docs/numerics.md 5): one state per channel, one step per token.

use super::math::exp;

/// A running softmax of `width` channels, laid out max, weight sum, weighted sum.
pub struct State<'a> {
    max: &'a mut [f32],
    weight: &'a mut [f32],
    value: &'a mut [f32],
}

impl<'a> State<'a> {
    /// Views `3 * width` values.
    pub fn new(values: &'a mut [f32]) -> Self {
        let width = values.len() / 3;
        let (max, rest) = values.split_at_mut(width);
        let (weight, value) = rest.split_at_mut(width);
        Self { max, weight, value }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.max.fill(f32::NEG_INFINITY);
        self.weight.fill(0.0);
        self.value.fill(0.0);
    }

    /// Adds a token.
    pub fn step(&mut self, kv: &[f32], gate: &[f32], ape: &[f32]) {
        step(self.max, self.weight, self.value, kv, gate, ape);
    }

    /// The pooled row.
    pub fn pooled(&self, row: &mut [f32]) {
        for ((row, value), weight) in row.iter_mut().zip(&*self.value).zip(&*self.weight) {
            *row = value / weight;
        }
    }
}

kernel! {
fn step(max: &mut [f32], weight: &mut [f32], value: &mut [f32], kv: &[f32], gate: &[f32], ape: &[f32]) {
    let n = max.len();
    let (weight, value, kv, gate, ape) = (&mut weight[..n], &mut value[..n], &kv[..n], &gate[..n], &ape[..n]);
    for i in 0..n {
        let z = gate[i] + ape[i];
        let top = if z > max[i] { z } else { max[i] };
        let keep = if max[i] == f32::NEG_INFINITY { 0.0 } else { exp(max[i] - top) };
        let add = exp(z - top);
        weight[i] = weight[i].mul_add(keep, add);
        value[i] = value[i].mul_add(keep, add * kv[i]);
        max[i] = top;
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_form_is_a_softmax_weighted_mean() {
        let (gates, values) = ([0.3f32, 2.0, -1.0, 2.5], [1.0f32, 2.0, 3.0, 4.0]);
        let mut memory = [7.0; 3];
        let mut state = State::new(&mut memory);
        state.clear();
        for (g, v) in gates.iter().zip(values) {
            state.step(&[v], &[*g - 0.5], &[0.5]);
        }
        let mut row = [0.0];
        state.pooled(&mut row);
        let sum: f64 = gates.iter().map(|g| (*g as f64).exp()).sum();
        let want: f64 = gates.iter().zip(values).map(|(g, v)| (*g as f64).exp() * v as f64).sum::<f64>() / sum;
        assert!((row[0] as f64 - want).abs() < 1e-6);
    }
}
