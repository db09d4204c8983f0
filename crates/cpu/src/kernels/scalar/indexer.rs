//! Scores of the indexer (docs/numerics.md 5).

use crate::kernels::indexer::{Keys, OFFSET, Query, ROWS, relu};
use crate::kernels::rows::{FP4_BLOCK, fp4_block};

/// See [`Keys::fill`].
pub(crate) fn fill(keys: &mut Keys, rows: [&[u8]; ROWS]) {
    let dim = 4 * keys.quads.len();
    let mut doubled = [0; FP4_BLOCK];
    for (r, row) in rows.into_iter().enumerate() {
        for (b, quads) in keys.quads.chunks_mut(FP4_BLOCK / 4).enumerate() {
            keys.half_scales[b][r] = fp4_block(row, dim, b, &mut doubled);
            for (quad, four) in quads.iter_mut().zip(doubled.as_chunks::<4>().0) {
                quad.0[4 * r..][..4].copy_from_slice(&four.map(|k| (k + OFFSET) as u8));
            }
        }
    }
}

/// See [`crate::kernels::indexer::scores`].
pub(crate) fn scores(query: &Query<'_>, keys: &Keys) -> [f32; ROWS] {
    let (dim, blocks) = (4 * keys.quads.len(), keys.half_scales.len());
    std::array::from_fn(|r| {
        let mut score = 0.0f32;
        for (h, &weight) in query.weights.iter().enumerate() {
            let mut s = 0.0f32;
            for b in 0..blocks {
                let q = &query.doubled[h * dim + b * FP4_BLOCK..][..FP4_BLOCK];
                let mut dot = query.offsets[h * blocks + b];
                for (quad, q) in keys.quads[b * FP4_BLOCK / 4..].iter().zip(q.as_chunks::<4>().0) {
                    for (k, q) in quad.0[4 * r..].iter().zip(q) {
                        dot += i32::from(*k) * i32::from(*q);
                    }
                }
                s = (dot as f32).mul_add(query.half_scales[h * blocks + b] * keys.half_scales[b][r], s);
            }
            score = weight.mul_add(relu(s), score);
        }
        score
    })
}
