//! Q4_K.

use std::arch::x86_64::*;

use ds4_gguf::blocks::q4_k::{BLOCK_BYTES, scales_and_mins};

use super::{
    AHEAD, Activation, HELD, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load, load_half,
    load_two, part, prefetch, prefetch_next_tile, store_half,
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
                let (scales, mins) = scales_and_mins(block);
                held.products[i] = products(block, scales, &q[first + i]);
                held.mins[i] = sum_of_mins(mins, &by_16[first + i]);
                held.d[i] = u16::from_le_bytes(*part(block, 0));
                held.dmin[i] = u16::from_le_bytes(*part(block, 2));
            }
            held.end(blocks.len());
            lanes = held.add_to::<true>(&x.d[first..first + blocks.len()], 1.0, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni")]
fn products(block: &[u8; BLOCK_BYTES], scales: [u8; 8], q: &[i8; SUPER]) -> __m512i {
    let fifteen = _mm512_set1_epi8(15);
    // Words 0 to 7: the scales.
    let scales = _mm512_castsi128_si512(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(scales))));
    let mut s = _mm512_setzero_si512();
    for i in 0..2 {
        // Two times 32 bytes: low nibbles are sub-blocks 0 and 2, high ones 1 and 3, of the half of the block.
        let packed = load::<u8, 64>(part(block, 16 + 64 * i));
        for odd in 0..2 {
            let w = if odd == 0 { packed } else { _mm512_srli_epi16(packed, 4) };
            let sub = 4 * i + odd;
            let q = load_two::<i8, 32>(part(q, 32 * sub), part(q, 32 * (sub + 2)));
            let pairs = _mm512_maddubs_epi16(_mm512_and_si512(w, fifteen), q);
            let two = |at: usize| _mm256_set1_epi16(at as i16);
            let places = _mm512_inserti64x4(_mm512_castsi256_si512(two(sub)), two(sub + 2), 1);
            s = _mm512_dpwssd_epi32(s, pairs, _mm512_permutexvar_epi16(places, scales));
        }
    }
    s
}

/// Parts of Σ min·q.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn sum_of_mins(mins: [u8; 8], by_16: &[i16; 16]) -> __m256i {
    let mins = _mm_cvtsi64_si128(i64::from_le_bytes(mins));
    _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins)), load_half(by_16))
}

/// Fills a tile with rows of `row_bytes` bytes.
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
                nibbles(block, &mut unpacking.w[r]);
                let (scales, mins) = scales_and_mins(block);
                for j in 0..8 {
                    unpacking.scales[r][j] = i32::from(scales[j]);
                    unpacking.mins[r][j] = i32::from(mins[j]) * 0x1_0001;
                }
                unpacking.d[r] = u16::from_le_bytes(*part(block, 0));
                unpacking.dmin[r] = u16::from_le_bytes(*part(block, 2));
            }
            unpacking.put::<true, true>(_mm512_setzero_si512(), tile, i, half);
        }
    }
}

/// Every element.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn nibbles(block: &[u8; BLOCK_BYTES], out: &mut [u8; SUPER]) {
    let fifteen = _mm256_set1_epi8(15);
    for (packed, out) in block[16..].as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0) {
        let packed = load_half(packed);
        let [low, high] = out.as_chunks_mut::<32>().0 else { unreachable!("64 bytes are two times 32") };
        store_half(_mm256_and_si256(packed, fifteen), low);
        store_half(_mm256_and_si256(_mm256_srli_epi16(packed, 4), fifteen), high);
    }
}
