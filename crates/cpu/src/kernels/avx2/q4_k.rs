//! Q4_K.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q4_k::{BLOCK_BYTES, scales_and_mins};

use super::{
    Activation, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load, part, prefetch,
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
                let (scales, mins) = scales_and_mins(block);
                held.products[i] = products(block, scales, &q[4 * c + i]);
                held.mins[i] = sum_of_mins(mins, &by_16[4 * c + i]);
                held.d[i] = u16::from_le_bytes(*part(block, 0));
                held.dmin[i] = u16::from_le_bytes(*part(block, 2));
            }
            lanes = held.add_to::<true>(1.0, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "avx2")]
fn products(block: &[u8; BLOCK_BYTES], scales: [u8; 8], q: &[i8; SUPER]) -> __m256i {
    let (mut s, fifteen) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
    for pair in 0..4 {
        let packed = load::<u8, 32>(part(block, 16 + 32 * pair));
        for odd in 0..2 {
            let sub = 2 * pair + odd;
            let w = if odd == 0 { packed } else { _mm256_srli_epi16(packed, 4) };
            let pairs = _mm256_maddubs_epi16(_mm256_and_si256(w, fifteen), load::<i8, 32>(part(q, 32 * sub)));
            let scale = _mm256_set1_epi16(i16::from(scales[sub]));
            s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, scale));
        }
    }
    s
}

/// Parts of Σ min·q.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_mins(mins: [u8; 8], by_16: &[i16; 16]) -> __m256i {
    let mins = _mm_cvtsi64_si128(i64::from_le_bytes(mins));
    _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins)), load(by_16))
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
                nibbles(block, &mut unpacking.w[r]);
                let (scales, mins) = scales_and_mins(block);
                for j in 0..8 {
                    unpacking.scales[r][j] = i32::from(scales[j]) * 0x1_0001;
                    unpacking.mins[r][j] = i32::from(mins[j]) * 0x1_0001;
                }
                unpacking.d[r] = u16::from_le_bytes(*part(block, 0));
                unpacking.dmin[r] = u16::from_le_bytes(*part(block, 2));
            }
            unpacking.put(tile, i, half);
        }
    }
}

/// Every element.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(block: &[u8; BLOCK_BYTES], out: &mut [u8; SUPER]) {
    let fifteen = _mm256_set1_epi8(15);
    for (packed, out) in block[16..].as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0) {
        let packed = load(packed);
        let [low, high] = out.as_chunks_mut::<32>().0 else { unreachable!("64 bytes are two times 32") };
        store(_mm256_and_si256(packed, fifteen), low);
        store(_mm256_and_si256(_mm256_srli_epi16(packed, 4), fifteen), high);
    }
}
