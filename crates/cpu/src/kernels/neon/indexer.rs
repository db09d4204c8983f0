//! Scores of the indexer.

use std::arch::aarch64::*;

use ds4_gguf::blocks::float::e8m0_to_f32;

use super::{dot, lanes_of, load, load_f32, load_u8, part};
use crate::kernels::indexer::{Keys, OFFSET, Query, ROWS};
use crate::kernels::rows::{FP4_BLOCK, FP4_DOUBLED};

/// Heads whose sums hide each other's latency.
const HEADS: usize = 2;

/// See [`Keys::fill`].
#[target_feature(enable = "neon")]
pub(crate) fn fill(keys: &mut Keys, rows: [&[u8]; ROWS]) {
    let dim = 4 * keys.quads.len();
    for (r, row) in rows.into_iter().enumerate() {
        for (b, quads) in keys.quads.chunks_exact_mut(FP4_BLOCK / 4).enumerate() {
            keys.half_scales[b][r] = 0.5 * e8m0_to_f32(row[dim / 2 + b]);
            let values = unpack(part(row, b * FP4_BLOCK / 2));
            for (quad, four) in quads.iter_mut().zip(values.as_chunks::<4>().0) {
                quad.0[4 * r..][..4].copy_from_slice(four);
            }
        }
    }
}

/// The doubled values of 32 codes with their offset, lower halves of bytes first.
#[inline]
#[target_feature(enable = "neon")]
fn unpack(codes: &[u8; 16]) -> [u8; FP4_BLOCK] {
    let table = vreinterpretq_u8_s8(vaddq_s8(load(&FP4_DOUBLED), vdupq_n_s8(OFFSET)));
    let codes = load_u8(codes);
    let even = vqtbl1q_u8(table, vandq_u8(codes, vdupq_n_u8(15)));
    let odd = vqtbl1q_u8(table, vshrq_n_u8::<4>(codes));
    let mut values = [0; FP4_BLOCK];
    // SAFETY: room for 32.
    #[allow(unsafe_code)]
    unsafe {
        vst2q_u8(values.as_mut_ptr(), uint8x16x2_t(even, odd));
    }
    values
}

/// See [`crate::kernels::indexer::scores`]; a lane is a row, 4 in each of four registers.
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn scores(query: &Query<'_>, keys: &Keys) -> [f32; ROWS] {
    let (dim, blocks) = (4 * keys.quads.len(), keys.half_scales.len());
    let mut score = [vdupq_n_f32(0.0); 4];
    for (h, weights) in query.weights.chunks(HEADS).enumerate() {
        // A head that is not there repeats the last one.
        let heads = [h * HEADS, h * HEADS + weights.len() - 1];
        let q = heads.map(|h| query.doubled[h * dim..][..dim].as_chunks::<4>().0);
        let mut s = [[vdupq_n_f32(0.0); 4]; HEADS];
        for (b, (k, scale)) in keys.quads.chunks_exact(FP4_BLOCK / 4).zip(&keys.half_scales).enumerate() {
            let mut dots = heads.map(|h| [vdupq_n_s32(query.offsets[h * blocks + b]); 4]);
            for (c, k) in k.iter().enumerate() {
                for i in 0..HEADS {
                    let q = vdupq_n_s32(i32::from_le_bytes(bytemuck::cast(q[i][b * FP4_BLOCK / 4 + c])));
                    for j in 0..4 {
                        dots[i][j] = dot(dots[i][j], load::<u8, 16>(part(&k.0, 16 * j)), vreinterpretq_s8_s32(q));
                    }
                }
            }
            for i in 0..HEADS {
                for j in 0..4 {
                    let scale = vmulq_n_f32(load_f32(part(scale, 4 * j)), query.half_scales[heads[i] * blocks + b]);
                    s[i][j] = vfmaq_f32(s[i][j], vcvtq_f32_s32(dots[i][j]), scale);
                }
            }
        }
        for (s, weight) in s.into_iter().zip(weights) {
            for j in 0..4 {
                // Of a number and NaN the instruction takes NaN.
                score[j] = vfmaq_n_f32(score[j], vmaxq_f32(s[j], vdupq_n_f32(0.0)), *weight);
            }
        }
    }
    let mut scores = [0.0; ROWS];
    for (score, four) in score.into_iter().zip(scores.as_chunks_mut().0) {
        *four = lanes_of(score);
    }
    scores
}
