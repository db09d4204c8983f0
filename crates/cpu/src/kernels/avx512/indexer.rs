//! Scores of the indexer.

use std::arch::x86_64::*;

use ds4_gguf::blocks::float::e8m0_to_f32;

use super::{all_lanes_of, load, load_f32, load_quarter, part, transpose};
use crate::kernels::indexer::{Keys, OFFSET, Query, ROWS};
use crate::kernels::rows::{FP4_BLOCK, FP4_DOUBLED};

/// Heads whose sums hide each other's latency.
const HEADS: usize = 4;

/// Doubled codes with their offset.
const VALUES: [u8; 16] = {
    let mut values = [0; 16];
    let mut code = 0;
    while code < 16 {
        values[code] = (FP4_DOUBLED[code] + OFFSET) as u8;
        code += 1;
    }
    values
};

/// See [`Keys::fill`].
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
pub(crate) fn fill(keys: &mut Keys, rows: [&[u8]; ROWS]) {
    let dim = 4 * keys.quads.len();
    for (b, quads) in keys.quads.chunks_exact_mut(FP4_BLOCK / 4).enumerate() {
        let mut values = [[0u8; FP4_BLOCK]; ROWS];
        for (row, values) in rows.iter().zip(&mut values) {
            unpack(part(row, b * FP4_BLOCK / 2), values);
        }
        for (column, quad) in transpose(|r| &values[r]).into_iter().zip(quads) {
            super::store(column, &mut quad.0);
        }
        keys.half_scales[b] = rows.map(|row| 0.5 * e8m0_to_f32(row[dim / 2 + b]));
    }
}

/// The values of 32 codes, lower halves of bytes first.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn unpack(codes: &[u8; 16], values: &mut [u8; FP4_BLOCK]) {
    let (codes, table, low) = (load_quarter(codes), load_quarter(&VALUES), _mm_set1_epi8(15));
    let even = _mm_shuffle_epi8(table, _mm_and_si128(codes, low));
    let odd = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(codes, 4), low));
    let both = _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
    super::store_half(both, values);
}

/// See [`crate::kernels::indexer::scores`]; a lane is a row.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
pub(crate) fn scores(query: &Query<'_>, keys: &Keys) -> [f32; ROWS] {
    let (dim, blocks) = (4 * keys.quads.len(), keys.half_scales.len());
    let mut score = _mm512_setzero_ps();
    for (h, weights) in query.weights.chunks(HEADS).enumerate() {
        let first = h * HEADS;
        // Heads that are not there repeat the last one.
        let heads: [usize; HEADS] = std::array::from_fn(|i| first + i.min(weights.len() - 1));
        let q = heads.map(|h| query.doubled[h * dim..][..dim].as_chunks::<4>().0);
        let mut s = [_mm512_setzero_ps(); HEADS];
        for (b, (k, scale)) in keys.quads.chunks_exact(FP4_BLOCK / 4).zip(&keys.half_scales).enumerate() {
            let mut dots = heads.map(|h| _mm512_set1_epi32(query.offsets[h * blocks + b]));
            for (c, k) in k.iter().enumerate() {
                let k = load(&k.0);
                for i in 0..HEADS {
                    let q = _mm512_set1_epi32(i32::from_le_bytes(bytemuck::cast(q[i][b * FP4_BLOCK / 4 + c])));
                    dots[i] = _mm512_dpbusd_epi32(dots[i], k, q);
                }
            }
            for i in 0..HEADS {
                let scale = _mm512_mul_ps(_mm512_set1_ps(query.half_scales[heads[i] * blocks + b]), load_f32(scale));
                s[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[i]), scale, s[i]);
            }
        }
        for (s, weight) in s.into_iter().zip(weights) {
            // Of two numbers one of which is NaN the instruction takes the second.
            let positive = _mm512_max_ps(_mm512_setzero_ps(), s);
            score = _mm512_fmadd_ps(_mm512_set1_ps(*weight), positive, score);
        }
    }
    all_lanes_of(score)
}
