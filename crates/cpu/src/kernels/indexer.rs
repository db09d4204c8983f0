//! The indexer: Hadamard transform, scores of compressed rows, the best of them (docs/numerics.md 5).

use ds4_model::RowLayout;

use super::math::dot;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::rows::{FP4_BLOCK, fp4_block};
use super::tile::Line;
use super::{Family, scalar};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

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

/// Stored rows that are scored side by side.
pub const ROWS: usize = 16;
/// Added to doubled codes of keys, so that none is negative.
pub const OFFSET: i8 = 16;

/// A query row of every indexer head, FP4: twice the values as integers, half the scales.
pub struct Query<'a> {
    /// `[heads][dim]`
    pub doubled: &'a [i8],
    /// `[heads][dim / 32]`: -[`OFFSET`] times the sum of a block
    pub offsets: &'a [i32],
    /// `[heads][dim / 32]`
    pub half_scales: &'a [f32],
    /// `[heads]`
    pub weights: &'a [f32],
}

/// [`ROWS`] stored rows, four channels of each side by side.
pub struct Keys {
    /// `[dim / 4]`: four channels of every row, twice their values and [`OFFSET`]
    pub(super) quads: Vec<Line>,
    /// `[dim / 32]`: half the scales of every row
    pub(super) half_scales: Vec<[f32; ROWS]>,
}

impl Keys {
    /// Memory for rows of `dim` channels.
    pub fn new(dim: usize) -> Self {
        Self { quads: vec![Line([1; 64]); dim / 4], half_scales: vec![[f32::NAN; ROWS]; dim / FP4_BLOCK] }
    }

    /// Bytes that [`Keys::new`] takes.
    pub fn bytes(dim: usize) -> usize {
        dim / 4 * 64 + dim / FP4_BLOCK * 4 * ROWS
    }

    /// Takes over the stored rows `rows`.
    pub fn fill(&mut self, family: Family, rows: [&[u8]; ROWS]) {
        assert!(family.is_supported(), "this machine has no {family}");
        let dim = 4 * self.quads.len();
        assert!(rows.iter().all(|row| row.len() == RowLayout::Fp4 { width: dim }.bytes()), "rows of {dim} channels");
        match family {
            // SAFETY: the machine has the family's instructions.
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            Family::Avx512 => unsafe { avx512::indexer::fill(self, rows) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            #[allow(unsafe_code)]
            Family::Neon => unsafe { neon::indexer::fill(self, rows) },
            _ => scalar::indexer::fill(self, rows),
        }
    }
}

/// Scores of the rows of `keys`.
pub fn scores(family: Family, query: &Query<'_>, keys: &Keys) -> [f32; ROWS] {
    assert!(family.is_supported(), "this machine has no {family}");
    let (heads, quads, blocks) = (query.weights.len(), keys.quads.len(), keys.half_scales.len());
    assert_eq!(query.doubled.len(), heads * 4 * quads, "query rows are as wide as keys");
    assert!(
        query.half_scales.len() == heads * blocks && query.offsets.len() == heads * blocks,
        "{blocks} blocks a row"
    );
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe { avx512::indexer::scores(query, keys) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx2 => unsafe { avx2::indexer::scores(query, keys) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        #[allow(unsafe_code)]
        Family::Neon => unsafe { neon::indexer::scores(query, keys) },
        _ => scalar::indexer::scores(query, keys),
    }
}

/// Splits a stored query row into integers with their offsets, and scales.
pub fn unpack(row: &[u8], doubled: &mut [i8], offsets: &mut [i32], half_scales: &mut [f32]) {
    let dim = doubled.len();
    let blocks = doubled.as_chunks_mut::<FP4_BLOCK>().0.iter_mut();
    for (b, ((doubled, offset), scale)) in blocks.zip(offsets).zip(half_scales).enumerate() {
        *scale = fp4_block(row, dim, b, doubled);
        *offset = -i32::from(OFFSET) * doubled.iter().map(|q| i32::from(*q)).sum::<i32>();
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
pub(super) fn relu(s: f32) -> f32 {
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
