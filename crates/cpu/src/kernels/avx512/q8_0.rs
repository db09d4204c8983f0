//! Q8_0.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q8_0::{BLOCK_BYTES, BLOCK_LEN};

use super::{
    AHEAD, AHEAD_IN_TILE, Activation, Line, ROWS, Tile, add_in_lanes, fold4, lane_places, lanes_of, load, load_f32,
    load_two, part, prefetch, store, transpose, widen_16,
};
use crate::kernels::scalar;

/// Blocks at a time.
const GROUP: usize = 16;
const GROUP_BYTES: usize = GROUP * BLOCK_BYTES;
const GROUP_LEN: usize = GROUP * BLOCK_LEN;

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let (groups, rest) = row.as_chunks::<GROUP_BYTES>();
        let mut lanes = _mm_setzero_ps();
        let q = x.q.as_chunks::<GROUP_LEN>().0;
        let d = x.d.as_chunks::<GROUP>().0;
        let by_16 = x.sums.as_chunks::<{ GROUP_LEN / 16 }>().0;
        for (((w, q), d), by_16) in groups.iter().zip(q).zip(d).zip(by_16) {
            prefetch(w, AHEAD, GROUP_BYTES);
            let s = _mm512_cvtepi32_ps(integers(w, q, by_16));
            let scale = _mm512_mul_ps(scales(w), load_f32(d));
            lanes = _mm_fmadd_ps(_mm512_castps512_ps128(s), _mm512_castps512_ps128(scale), lanes);
            lanes = _mm_fmadd_ps(_mm512_extractf32x4_ps(s, 1), _mm512_extractf32x4_ps(scale, 1), lanes);
            lanes = _mm_fmadd_ps(_mm512_extractf32x4_ps(s, 2), _mm512_extractf32x4_ps(scale, 2), lanes);
            lanes = _mm_fmadd_ps(_mm512_extractf32x4_ps(s, 3), _mm512_extractf32x4_ps(scale, 3), lanes);
        }
        let mut lanes = lanes_of(lanes);
        scalar::q8_0::add_blocks(rest, &x.q[groups.len() * GROUP_LEN..], &x.d[groups.len() * GROUP..], &mut lanes);
        *y = fold4(lanes);
    }
}

/// Σ w·q of 16 blocks. The instruction multiplies unsigned by signed: (w + 128)·q, and 128·Σq goes off again.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn integers(w: &[u8; GROUP_BYTES], q: &[i8; GROUP_LEN], by_16: &[i16; GROUP_LEN / 16]) -> __m512i {
    let (zero, high_bit) = (_mm512_setzero_si512(), _mm512_set1_epi8(-128));
    let mut s = [zero; 8];
    for i in 0..8 {
        let at = 2 * BLOCK_BYTES * i + 2;
        let two = load_two::<u8, 32>(part(w, at), part(w, at + BLOCK_BYTES));
        s[i] = _mm512_dpbusd_epi32(zero, _mm512_xor_si512(two, high_bit), load::<i8, 64>(part(q, 64 * i)));
    }
    let low = add_in_lanes([s[0], s[1], s[2], s[3]]);
    let high = add_in_lanes([s[4], s[5], s[6], s[7]]);
    // Even blocks lie in the lower halves, odd ones in the upper.
    let s = _mm512_add_epi32(_mm512_shuffle_i64x2(low, high, 0x88), _mm512_shuffle_i64x2(low, high, 0xDD));
    let order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    let offset = _mm512_madd_epi16(load(by_16), _mm512_set1_epi16(128));
    _mm512_sub_epi32(_mm512_permutexvar_epi32(order, s), offset)
}

/// `d` of 16 blocks.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c")]
fn scales(w: &[u8; GROUP_BYTES]) -> __m512 {
    // Of the 32 words from an even block's start on, number 0 is its scale and number 17 the next one's.
    let places = _mm512_set1_epi32(17 << 16);
    let mut d = _mm512_setzero_si512();
    for i in 0..8 {
        let two = load::<u8, 64>(part(w, 2 * BLOCK_BYTES * i));
        d = _mm512_mask_permutexvar_epi16(d, 3 << (2 * i), places, two);
    }
    _mm512_cvtph_ps(_mm512_castsi512_si256(d))
}

/// Fills a tile with rows of `row_bytes` bytes; 128 is added to the quants.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let high_bit = _mm512_set1_epi8(-128);
    let last = w.len() / row_bytes - 1;
    for (u, i) in lane_places(row_bytes / BLOCK_BYTES).enumerate() {
        for half in 0..ROWS / 16 {
            let block =
                |r: usize| -> &[u8; BLOCK_BYTES] { part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES) };
            for (k, column) in transpose(|r| part(block(r), 2)).into_iter().enumerate() {
                let Line(line) = &mut tile.w[2 * (8 * i + k) + half];
                store(_mm512_xor_si512(column, high_bit), line);
            }
            let mut d = [0; 16];
            for r in 0..16 {
                prefetch(block(r), AHEAD_IN_TILE, BLOCK_BYTES);
                d[r] = u16::from_le_bytes(*part(block(r), 0));
            }
            tile.d[2 * i + half] = widen_16(&d);
        }
    }
}
