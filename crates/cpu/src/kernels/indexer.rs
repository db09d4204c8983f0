//! The indexer: Hadamard transform, scores of compressed rows, the best of them (docs/numerics.md 5).

use super::math::dot;
use super::rows::{FP4_BLOCK, fp4_block};

kernel! {
/// Hadamard transform in natural order, scaled to keep lengths. The length is a power of two.
pub fn hadamard(x: &mut [f32]) {
    let n = x.len();
    let mut stride = 1;
    while stride < n {
        for pair in x.chunks_mut(2 * stride) {
            let (a, b) = pair.split_at_mut(stride);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
    let scale = (1.0 / (n as f64).sqrt()) as f32;
    for x in x {
        *x *= scale;
    }
}
}

/// A query row of every indexer head, FP4: twice the values as integers, half the scales.
pub struct Query<'a> {
    /// `[heads][dim]`
    pub doubled: &'a [i8],
    /// `[heads][dim / 32]`
    pub half_scales: &'a [f32],
    /// `[heads]`
    pub weights: &'a [f32],
}

kernel! {
/// Splits rounded query rows (`[heads]` rows as stored) into integers and scales.
pub fn unpack(row: &[u8], dim: usize, doubled: &mut [i8], half_scales: &mut [f32]) {
    for (b, (doubled, scale)) in doubled.as_chunks_mut::<FP4_BLOCK>().0.iter_mut().zip(half_scales).enumerate() {
        *scale = fp4_block(row, dim, b, doubled);
    }
}
}

kernel! {
/// Score of one stored row (its integers and half scales as from [`unpack`]).
pub fn score(query: &Query<'_>, key: &[i8], key_scales: &[f32]) -> f32 {
    let (dim, blocks) = (key.len(), key_scales.len());
    let mut score = 0.0f32;
    for (h, &weight) in query.weights.iter().enumerate() {
        let q = &query.doubled[h * dim..][..dim];
        let scales = &query.half_scales[h * blocks..][..blocks];
        let mut s = 0.0f32;
        for b in 0..blocks {
            let range = b * FP4_BLOCK..(b + 1) * FP4_BLOCK;
            let dot: i32 = q[range.clone()].iter().zip(&key[range]).map(|(a, b)| *a as i32 * *b as i32).sum();
            s = (dot as f32).mul_add(scales[b] * key_scales[b], s);
        }
        score = weight.mul_add(relu(s), score);
    }
    score
}
}

kernel! {
/// Score of one row in exact mode: `q [heads][dim]`, `key [dim]`.
pub fn score_f32(q: &[f32], weights: &[f32], key: &[f32]) -> f32 {
    let mut score = 0.0f32;
    for (q, weight) in q.chunks(key.len()).zip(weights) {
        score = weight.mul_add(relu(dot(q, key)), score);
    }
    score
}
}

#[inline(always)]
fn relu(s: f32) -> f32 {
    if s <= 0.0 { 0.0 } else { s }
}

/// Puts the best of `scores`, as many as `picks` holds and fewer than there are, into `picks`, ascending; the lower
/// index first among equals. NaN never wins.
pub fn best(scores: &[f32], order: &mut Vec<u32>, picks: &mut [u32]) {
    order.clear();
    order.extend(0..scores.len() as u32);
    order.select_nth_unstable_by_key(picks.len() - 1, |&i| (better_first(scores[i as usize]), i));
    picks.copy_from_slice(&order[..picks.len()]);
    picks.sort_unstable();
}

/// Picks all of `n` rows, no more than `picks` holds.
pub fn all(n: usize, picks: &mut [u32]) {
    for (i, pick) in picks.iter_mut().enumerate() {
        *pick = if i < n { i as u32 } else { u32::MAX };
    }
}

/// A key that sorts larger scores first, equal ones (and the two zeros) alike, NaN last.
pub fn better_first(score: f32) -> u32 {
    if score.is_nan() {
        return u32::MAX;
    }
    let bits = (score + 0.0).to_bits();
    // Order of floats as unsigned integers, reversed.
    if bits >> 31 == 0 { !(bits | 0x8000_0000) } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hadamard_transform_is_its_own_inverse() {
        let x: Vec<f32> = (0..128).map(|i| (i * i % 17) as f32 - 8.0).collect();
        let mut y = x.clone();
        hadamard(&mut y);
        assert_eq!(y[0], x.iter().sum::<f32>() * (1.0 / 128f64.sqrt()) as f32);
        hadamard(&mut y);
        assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    #[test]
    fn the_best_rows_come_in_ascending_order_and_ties_take_the_lower_index() {
        let (mut order, mut picks) = (Vec::new(), [0; 3]);
        best(&[1.0, 5.0, f32::NAN, 2.0, 2.0, 2.0], &mut order, &mut picks);
        assert_eq!(picks, [1, 3, 4]);
        best(&[-0.0, 0.0, f32::NEG_INFINITY, 0.0], &mut order, &mut picks);
        assert_eq!(picks, [0, 1, 3]);
        all(1, &mut picks);
        assert_eq!(picks, [0, u32::MAX, u32::MAX]);
    }

    #[test]
    fn better_first_orders_like_the_numbers() {
        let ordered = [f32::INFINITY, 3.0, 1e-40, 0.0, -1e-40, -2.0, f32::NEG_INFINITY];
        assert!(ordered.windows(2).all(|w| better_first(w[0]) < better_first(w[1])));
        assert_eq!(better_first(-0.0), better_first(0.0));
    }
}
