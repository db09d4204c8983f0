//! Scores of the indexer.

use std::arch::x86_64::*;

use super::{load, load_f32, part};
use crate::kernels::indexer::{Keys, Query, ROWS};
use crate::kernels::rows::FP4_BLOCK;

/// See [`crate::kernels::indexer::scores`]; a lane is a row, 8 at a time.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn scores(query: &Query<'_>, keys: &Keys) -> [f32; ROWS] {
    let (dim, blocks) = (4 * keys.quads.len(), keys.half_scales.len());
    let mut scores = [0.0; ROWS];
    for half in 0..2 {
        let mut score = _mm256_setzero_ps();
        for (h, weight) in query.weights.iter().enumerate() {
            let q = query.doubled[h * dim..][..dim].as_chunks::<4>().0;
            let mut s = _mm256_setzero_ps();
            for (b, (k, scale)) in keys.quads.chunks_exact(FP4_BLOCK / 4).zip(&keys.half_scales).enumerate() {
                // Pairs stay below 2·28·12, eight of them fit into 16 bits.
                let mut pairs = _mm256_setzero_si256();
                for (c, k) in k.iter().enumerate() {
                    let q = _mm256_set1_epi32(i32::from_le_bytes(bytemuck::cast(q[b * FP4_BLOCK / 4 + c])));
                    let k = load::<u8, 32>(part(&k.0, 32 * half));
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(k, q));
                }
                let dots = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                let dots = _mm256_add_epi32(dots, _mm256_set1_epi32(query.offsets[h * blocks + b]));
                let both = _mm256_set1_ps(query.half_scales[h * blocks + b]);
                let scale = _mm256_mul_ps(both, load_f32(part(scale, 8 * half)));
                s = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, s);
            }
            // Of two numbers one of which is NaN the instruction takes the second.
            let positive = _mm256_max_ps(_mm256_setzero_ps(), s);
            score = _mm256_fmadd_ps(_mm256_set1_ps(*weight), positive, score);
        }
        let lanes: [f32; 8] = bytemuck::cast(_mm256_castps_si256(score));
        scores[8 * half..][..8].copy_from_slice(&lanes);
    }
    scores
}
