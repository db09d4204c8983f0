//! Q8_0.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q8_0::{BLOCK_BYTES, BLOCK_LEN};

use super::{
    Activation, Line, ROWS, Tile, add_in_half_lanes, add_lanes, fold4, lane_places, lanes_of, load_eight, load_half,
    part, prefetch_next_tile, store, transpose, widen_16,
};
use crate::kernels::panels::{PANEL, Panel};
use crate::kernels::scalar;

/// Blocks at a time.
const GROUP: usize = 8;
const GROUP_BYTES: usize = GROUP * BLOCK_BYTES;
const GROUP_LEN: usize = GROUP * BLOCK_LEN;

/// `y[r] = w[r] · x`, a block a register: registers twice as wide need more shuffles and read memory more slowly.
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
            let s = _mm256_cvtepi32_ps(integers(w, q, by_16));
            let scale = _mm256_mul_ps(scales(w), load_eight(d));
            lanes = _mm_fmadd_ps(_mm256_castps256_ps128(s), _mm256_castps256_ps128(scale), lanes);
            lanes = _mm_fmadd_ps(_mm256_extractf128_ps(s, 1), _mm256_extractf128_ps(scale, 1), lanes);
        }
        let mut lanes = lanes_of(lanes);
        scalar::q8_0::add_blocks(rest, &x.q[groups.len() * GROUP_LEN..], &x.d[groups.len() * GROUP..], &mut lanes);
        *y = fold4(lanes);
    }
}

/// Σ w·q of 8 blocks. The instruction multiplies unsigned by signed: (w + 128)·q, and 128·Σq goes off again.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512vnni")]
fn integers(w: &[u8; GROUP_BYTES], q: &[i8; GROUP_LEN], by_16: &[i16; GROUP_LEN / 16]) -> __m256i {
    let (zero, high_bit) = (_mm256_setzero_si256(), _mm256_set1_epi8(-128));
    let mut s = [zero; GROUP];
    for i in 0..GROUP {
        let block = load_half::<u8, 32>(part(w, BLOCK_BYTES * i + 2));
        s[i] = _mm256_dpbusd_epi32(zero, _mm256_xor_si256(block, high_bit), load_half::<i8, 32>(part(q, 32 * i)));
    }
    let low = add_in_half_lanes([s[0], s[1], s[2], s[3]]);
    let high = add_in_half_lanes([s[4], s[5], s[6], s[7]]);
    let s = _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
    _mm256_sub_epi32(s, _mm256_madd_epi16(load_half(by_16), _mm256_set1_epi16(128)))
}

/// `d` of 8 blocks.
#[inline]
#[target_feature(enable = "avx512vl,f16c")]
fn scales(w: &[u8; GROUP_BYTES]) -> __m256 {
    let d = |i: usize| i16::from_le_bytes(*part(w, BLOCK_BYTES * i));
    _mm256_cvtph_ps(_mm_setr_epi16(d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7)))
}

/// Most tokens of [`mat_few`].
pub(super) const FEW: usize = 2 * PANEL;

/// Products of up to 32 rows with few tokens, who meet 16 rows while these are in registers; with more of them a tile
/// is faster.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) fn mat_few(
    w: &[u8],
    row_bytes: usize,
    panels: &[Panel<'_>; FEW / PANEL],
    tokens: usize,
    mut put: impl FnMut(usize, &[f32; ROWS]),
) {
    let mut y = [[0.0; ROWS]; FEW];
    for (half, rows) in w.chunks(16 * row_bytes).enumerate() {
        let lanes = lanes_of_few(rows, row_bytes, panels, tokens);
        for (y, lanes) in y.iter_mut().zip(lanes) {
            let [a, b, c, d] = lanes;
            add_lanes(a, c, b, d, &mut y.as_chunks_mut().0[half]);
        }
    }
    for (t, y) in y.iter().enumerate().take(tokens) {
        put(t, y);
    }
}

/// The four lanes of each token, for up to 16 rows.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
fn lanes_of_few(w: &[u8], row_bytes: usize, panels: &[Panel<'_>; FEW / PANEL], tokens: usize) -> [[__m512; 4]; FEW] {
    let (high_bit, last, units) = (_mm512_set1_epi8(-128), w.len() / row_bytes - 1, row_bytes / BLOCK_BYTES);
    let mut lanes = [[_mm512_setzero_ps(); 4]; FEW];
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
        let block = |r: usize| -> &[u8; BLOCK_BYTES] { part(w, r.min(last) * row_bytes + u * BLOCK_BYTES) };
        let mut columns = transpose(|r| part(block(r), 2));
        columns.iter_mut().for_each(|column| *column = _mm512_xor_si512(*column, high_bit));
        let d = |r: usize| i16::from_le_bytes(*part(block(r), 0));
        let low = _mm_setr_epi16(d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7));
        let high = _mm_setr_epi16(d(8), d(9), d(10), d(11), d(12), d(13), d(14), d(15));
        let d = _mm512_cvtph_ps(_mm256_set_m128i(high, low));
        for (panel, lanes) in panels.iter().zip(lanes[..tokens].chunks_mut(PANEL)) {
            let (q, offsets, dx): (&[_; 8], _, _) = (part(panel.q, 8 * i), &panel.offsets[i], &panel.d[i]);
            for (t, lanes) in lanes.iter_mut().enumerate() {
                let mut s = _mm512_set1_epi32(offsets[t]);
                for (column, q) in columns.iter().zip(q) {
                    s = _mm512_dpbusd_epi32(s, *column, _mm512_set1_epi32(q[t]));
                }
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(dx[t]));
                lanes[u % 4] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), scale, lanes[u % 4]);
            }
        }
    }
    lanes
}

/// Fills a tile with rows of `row_bytes` bytes; 128 is added to the quants.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let high_bit = _mm512_set1_epi8(-128);
    let last = w.len() / row_bytes - 1;
    let units = row_bytes / BLOCK_BYTES;
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
        for half in 0..ROWS / 16 {
            let block =
                |r: usize| -> &[u8; BLOCK_BYTES] { part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES) };
            for (k, column) in transpose(|r| part(block(r), 2)).into_iter().enumerate() {
                let Line(line) = &mut tile.w[2 * (8 * i + k) + half];
                store(_mm512_xor_si512(column, high_bit), line);
            }
            let mut d = [0; 16];
            for r in 0..16 {
                d[r] = u16::from_le_bytes(*part(block(r), 0));
            }
            tile.d[2 * i + half] = widen_16(&d);
        }
    }
}
