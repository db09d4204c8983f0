//! Q2_K.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q2_k::BLOCK_BYTES;

use super::{
    Activation, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load, load_half, part, prefetch,
    prefetch_next_tile, store,
};

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let (q, by_16) = (x.q.as_chunks::<SUPER>().0, x.sums.as_chunks::<16>().0);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = _mm_setzero_ps();
        for (c, (blocks, dx)) in row.as_chunks::<BLOCK_BYTES>().0.chunks(4).zip(x.d.chunks(4)).enumerate() {
            let mut held = Held::new(dx);
            for (i, block) in blocks.iter().enumerate() {
                prefetch(block, BLOCK_BYTES);
                held.products[i] = products(block, &q[4 * c + i]);
                held.mins[i] = mins(block, &by_16[4 * c + i]);
                held.d[i] = u16::from_le_bytes(*part(block, 80));
                held.dmin[i] = u16::from_le_bytes(*part(block, 82));
            }
            lanes = held.add_to::<true>(1.0, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "avx2")]
fn products(block: &[u8; BLOCK_BYTES], q: &[i8; SUPER]) -> __m256i {
    let scales = _mm_and_si128(load_half::<u8, 16>(part(block, 0)), _mm_set1_epi8(15));
    let scales = _mm256_broadcastsi128_si256(scales);
    let (mut s, three) = (_mm256_setzero_si256(), _mm256_set1_epi8(3));
    for half in 0..2 {
        let packed = load::<u8, 32>(part(block, 16 + 32 * half));
        let w = [packed, _mm256_srli_epi16(packed, 2), _mm256_srli_epi16(packed, 4), _mm256_srli_epi16(packed, 6)];
        for (i, w) in w.into_iter().enumerate() {
            let sub = 8 * half + 2 * i;
            let pairs = _mm256_maddubs_epi16(_mm256_and_si256(w, three), load::<i8, 32>(part(q, 16 * sub)));
            // The scale of each 128-bit lane, as eight words.
            let word = |at: usize| _mm_set1_epi16(i16::MIN | at as i16);
            let scale = _mm256_shuffle_epi8(scales, _mm256_setr_m128i(word(sub), word(sub + 1)));
            s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, scale));
        }
    }
    s
}

/// Parts of Σ min·q.
#[inline]
#[target_feature(enable = "avx2")]
fn mins(block: &[u8; BLOCK_BYTES], by_16: &[i16; 16]) -> __m256i {
    let mins = _mm_and_si128(_mm_srli_epi16(load_half::<u8, 16>(part(block, 0)), 4), _mm_set1_epi8(15));
    _mm256_madd_epi16(_mm256_cvtepu8_epi16(mins), load(by_16))
}

/// Fills a tile with rows of `row_bytes` bytes.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let last = w.len() / row_bytes - 1;
    let mut unpacking = Unpacking::new();
    let units = row_bytes / BLOCK_BYTES;
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
        for half in 0..ROWS / 16 {
            for r in 0..16 {
                let block: &[u8; BLOCK_BYTES] = part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES);
                quants(block, &mut unpacking.w[r]);
                for (j, pair) in block[..16].as_chunks::<2>().0.iter().enumerate() {
                    unpacking.scales[r][j] = i32::from(pair[0] & 15) | i32::from(pair[1] & 15) << 16;
                    unpacking.mins[r][j] = i32::from(pair[0] >> 4) | i32::from(pair[1] >> 4) << 16;
                }
                unpacking.d[r] = u16::from_le_bytes(*part(block, 80));
                unpacking.dmin[r] = u16::from_le_bytes(*part(block, 82));
            }
            unpacking.put(tile, i, half);
        }
    }
}

/// Every element.
#[inline]
#[target_feature(enable = "avx2")]
fn quants(block: &[u8; BLOCK_BYTES], out: &mut [u8; SUPER]) {
    let three = _mm256_set1_epi8(3);
    for (packed, out) in block[16..80].as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<128>().0) {
        let w = load(packed);
        let quarters = [w, _mm256_srli_epi16(w, 2), _mm256_srli_epi16(w, 4), _mm256_srli_epi16(w, 6)];
        for (w, out) in quarters.into_iter().zip(out.as_chunks_mut::<32>().0) {
            store(_mm256_and_si256(w, three), out);
        }
    }
}
