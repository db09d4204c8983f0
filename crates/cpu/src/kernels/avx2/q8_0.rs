//! Q8_0.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q8_0::{BLOCK_BYTES, BLOCK_LEN};

use super::{
    Activation, ROWS, Tile, fold4, lane_places, lanes_of, load, load_f32, part, prefetch, prefetch_next_tile, store,
    sums, transpose, widen_16,
};
use crate::kernels::scalar;

/// Blocks at a time.
const GROUP: usize = 8;
const GROUP_BYTES: usize = GROUP * BLOCK_BYTES;
const GROUP_LEN: usize = GROUP * BLOCK_LEN;

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let (groups, rest) = row.as_chunks::<GROUP_BYTES>();
        let mut lanes = _mm_setzero_ps();
        let (q, d) = (x.q.as_chunks::<GROUP_LEN>().0, x.d.as_chunks::<GROUP>().0);
        for ((w, q), d) in groups.iter().zip(q).zip(d) {
            prefetch(w, GROUP_BYTES);
            let s = _mm256_cvtepi32_ps(integers(w, q));
            let scale = _mm256_mul_ps(scales(w), load_f32(d));
            lanes = _mm_fmadd_ps(_mm256_castps256_ps128(s), _mm256_castps256_ps128(scale), lanes);
            lanes = _mm_fmadd_ps(_mm256_extractf128_ps(s, 1), _mm256_extractf128_ps(scale, 1), lanes);
        }
        let mut lanes = lanes_of(lanes);
        scalar::q8_0::add_blocks(rest, &x.q[groups.len() * GROUP_LEN..], &x.d[groups.len() * GROUP..], &mut lanes);
        *y = fold4(lanes);
    }
}

/// Σ w·q of 8 blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn integers(w: &[u8; GROUP_BYTES], q: &[i8; GROUP_LEN]) -> __m256i {
    let mut s = [_mm256_setzero_si256(); GROUP];
    for i in 0..GROUP {
        let w = load::<u8, 32>(part(w, BLOCK_BYTES * i + 2));
        let q = load::<i8, 32>(part(q, BLOCK_LEN * i));
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
        s[i] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    sums(s)
}

/// `d` of 8 blocks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn scales(w: &[u8; GROUP_BYTES]) -> __m256 {
    let d = |i: usize| i16::from_le_bytes(*part(w, BLOCK_BYTES * i));
    _mm256_cvtph_ps(_mm_setr_epi16(d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7)))
}

/// Fills a tile with rows of `row_bytes` bytes.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let last = w.len() / row_bytes - 1;
    let units = row_bytes / BLOCK_BYTES;
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
        for half in 0..ROWS / 16 {
            let block =
                |r: usize| -> &[u8; BLOCK_BYTES] { part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES) };
            for eight in 0..2 {
                for (k, column) in transpose(|r| part(block(8 * eight + r), 2)).into_iter().enumerate() {
                    store(column, &mut tile.w[2 * (8 * i + k) + half].0.as_chunks_mut::<32>().0[eight]);
                }
            }
            let mut d = [0; 16];
            for r in 0..16 {
                d[r] = u16::from_le_bytes(*part(block(r), 0));
            }
            tile.d[2 * i + half] = widen_16(&d);
        }
    }
}
