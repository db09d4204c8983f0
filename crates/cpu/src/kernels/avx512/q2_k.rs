//! Q2_K.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q2_k::BLOCK_BYTES;

use super::{
    AHEAD, Activation, HELD, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load, load_half,
    load_quarter, load_two, part, prefetch, prefetch_next_tile, store_half,
};

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let mut held = Held::new();
    let (q, by_16) = (x.q.as_chunks::<SUPER>().0, x.sums.as_chunks::<16>().0);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = _mm_setzero_ps();
        let blocks = row.as_chunks::<BLOCK_BYTES>().0;
        for (c, blocks) in blocks.chunks(HELD).enumerate() {
            let first = c * HELD;
            for (i, block) in blocks.iter().enumerate() {
                prefetch(block, AHEAD, BLOCK_BYTES);
                let s = _mm512_and_si512(scales_and_mins(block), _mm512_set1_epi8(15));
                held.products[i] = products(block, s, &q[first + i]);
                held.mins[i] = mins(block, &by_16[first + i]);
                held.d[i] = u16::from_le_bytes(*part(block, 80));
                held.dmin[i] = u16::from_le_bytes(*part(block, 82));
            }
            held.end(blocks.len());
            lanes = held.add_to::<true>(&x.d[first..first + blocks.len()], 1.0, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// The 16 bytes of scales and minimums, four times.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn scales_and_mins(block: &[u8; BLOCK_BYTES]) -> __m512i {
    _mm512_broadcast_i32x4(load_quarter::<u8, 16>(part(block, 0)))
}

/// Parts of Σ scale·w·q; `scales` holds 16 bytes four times.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn products(block: &[u8; BLOCK_BYTES], scales: __m512i, q: &[i8; SUPER]) -> __m512i {
    let packed = load::<u8, 64>(part(block, 16));
    let (mut s, three) = (_mm512_setzero_si512(), _mm512_set1_epi8(3));
    // The lower 32 bytes hold elements 0 to 127, the upper ones the rest, 32 of each at a time.
    let w = [packed, _mm512_srli_epi16(packed, 2), _mm512_srli_epi16(packed, 4), _mm512_srli_epi16(packed, 6)];
    for (i, w) in w.into_iter().enumerate() {
        let q = load_two::<i8, 32>(part(q, 32 * i), part(q, 128 + 32 * i));
        let pairs = _mm512_maddubs_epi16(_mm512_and_si512(w, three), q);
        s = _mm512_dpwssd_epi32(s, pairs, _mm512_shuffle_epi8(scales, places(i)));
    }
    s
}

/// Where the scales of the 16 elements in each 128-bit lane lie, as eight words.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn places(i: usize) -> __m512i {
    let byte = |at: usize| i16::MIN | at as i16;
    let two = |at: usize| _mm256_setr_m128i(_mm_set1_epi16(byte(at)), _mm_set1_epi16(byte(at + 1)));
    _mm512_inserti64x4(_mm512_castsi256_si512(two(2 * i)), two(8 + 2 * i), 1)
}

/// Parts of Σ min·q.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn mins(block: &[u8; BLOCK_BYTES], by_16: &[i16; 16]) -> __m256i {
    let mins = _mm_and_si128(_mm_srli_epi16(load_quarter::<u8, 16>(part(block, 0)), 4), _mm_set1_epi8(15));
    _mm256_madd_epi16(_mm256_cvtepu8_epi16(mins), load_half(by_16))
}

/// Fills a tile with rows of `row_bytes` bytes, the quants multiplied by their scales: at most 45.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let last = w.len() / row_bytes - 1;
    let mut unpacking = Unpacking::new();
    let units = row_bytes / BLOCK_BYTES;
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
        for half in 0..ROWS / 16 {
            for r in 0..16 {
                let block: &[u8; BLOCK_BYTES] = part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES);
                multiplied(block, &mut unpacking.w[r]);
                for (j, pair) in block[..16].as_chunks::<2>().0.iter().enumerate() {
                    unpacking.mins[r][j] = i32::from(pair[0] >> 4) | i32::from(pair[1] >> 4) << 16;
                }
                unpacking.d[r] = u16::from_le_bytes(*part(block, 80));
                unpacking.dmin[r] = u16::from_le_bytes(*part(block, 82));
            }
            unpacking.put::<false, true>(_mm512_setzero_si512(), tile, i, half);
        }
    }
}

/// Scale times quant of every element.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn multiplied(block: &[u8; BLOCK_BYTES], out: &mut [u8; SUPER]) {
    let packed = load::<u8, 64>(part(block, 16));
    let scales = _mm512_and_si512(scales_and_mins(block), _mm512_set1_epi8(15));
    let quarters = [packed, _mm512_srli_epi16(packed, 2), _mm512_srli_epi16(packed, 4), _mm512_srli_epi16(packed, 6)];
    let (low, high) = out.split_at_mut(SUPER / 2);
    for (i, quants) in quarters.into_iter().enumerate() {
        // `places` has the scale in every even byte.
        let scale = _mm512_shuffle_epi8(scales, places(i));
        let scale = _mm512_or_si512(scale, _mm512_slli_epi16(scale, 8));
        let once = _mm512_test_epi8_mask(quants, _mm512_set1_epi8(1));
        let twice = _mm512_test_epi8_mask(quants, _mm512_set1_epi8(2));
        let w = _mm512_maskz_mov_epi8(once, scale);
        let w = _mm512_mask_add_epi8(w, twice, w, _mm512_add_epi8(scale, scale));
        store_half(_mm512_castsi512_si256(w), &mut low.as_chunks_mut().0[i]);
        store_half(_mm512_extracti64x4_epi64(w, 1), &mut high.as_chunks_mut().0[i]);
    }
}
