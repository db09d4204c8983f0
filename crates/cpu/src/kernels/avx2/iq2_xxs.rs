//! IQ2_XXS. Lines of the grid and signs are looked up in memory.

use std::arch::x86_64::*;

use ds4_gguf::blocks::iq2_xxs::{BLOCK_BYTES, GRID, sign_mask};

use super::{
    Activation, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load, part, prefetch,
    prefetch_next_tile, store,
};

/// Largest magnitude in the grid.
const LARGEST: i8 = 43;

/// The signs of eight elements by their code: bytes 1 and -1.
static SIGNS: [u64; 128] = {
    let mut signs = [0; 128];
    let mut code = 0;
    while code < 128 {
        let mut i = 0;
        while i < 8 {
            let negative = sign_mask(code as u8) >> i & 1 == 1;
            signs[code] |= (if negative { 0xFF } else { 1 }) << (8 * i);
            i += 1;
        }
        code += 1;
    }
    signs
};

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let q = x.q.as_chunks::<SUPER>().0;
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = _mm_setzero_ps();
        for (c, (blocks, dx)) in row.as_chunks::<BLOCK_BYTES>().0.chunks(4).zip(x.d.chunks(4)).enumerate() {
            let mut held = Held::new(dx);
            for (i, block) in blocks.iter().enumerate() {
                prefetch(block, BLOCK_BYTES);
                held.products[i] = products(block, &q[4 * c + i]);
                held.d[i] = u16::from_le_bytes(*part(block, 0));
            }
            lanes = held.add_to::<false>(0.125, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "avx2")]
fn products(block: &[u8; BLOCK_BYTES], q: &[i8; SUPER]) -> __m256i {
    let mut s = _mm256_setzero_si256();
    for (group, q) in block[2..].as_chunks::<8>().0.iter().zip(q.as_chunks::<32>().0) {
        let (values, signs, scale) = values_signs_scale(group);
        let scale = _mm256_set1_epi16(scale);
        let pairs = _mm256_maddubs_epi16(values, _mm256_sign_epi8(load(q), signs));
        s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, scale));
    }
    s
}

/// Magnitudes and signs of 32 elements, and their multiplier.
#[inline]
#[target_feature(enable = "avx2")]
fn values_signs_scale(group: &[u8; 8]) -> (__m256i, __m256i, i16) {
    let codes = u32::from_le_bytes(*part(group, 4));
    let line = |i: usize| GRID[usize::from(group[i])] as i64;
    let sign = |i: usize| SIGNS[(codes >> (7 * i) & 127) as usize] as i64;
    let values = _mm256_setr_epi64x(line(0), line(1), line(2), line(3));
    let signs = _mm256_setr_epi64x(sign(0), sign(1), sign(2), sign(3));
    (values, signs, 2 * (codes >> 28) as i16 + 1)
}

/// Fills a tile with rows of `row_bytes` bytes; [`LARGEST`] is added to the elements, and the multipliers of the sums take
/// it off again.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let last = w.len() / row_bytes - 1;
    let mut unpacking = Unpacking::new();
    let largest = _mm256_set1_epi8(LARGEST);
    let units = row_bytes / BLOCK_BYTES;
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
        for half in 0..ROWS / 16 {
            for r in 0..16 {
                let block: &[u8; BLOCK_BYTES] = part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES);
                let out = unpacking.w[r].as_chunks_mut::<32>().0;
                for (j, (group, out)) in block[2..].as_chunks::<8>().0.iter().zip(out).enumerate() {
                    let (values, signs, scale) = values_signs_scale(group);
                    store(_mm256_add_epi8(_mm256_sign_epi8(values, signs), largest), out);
                    unpacking.scales[r][j] = i32::from(scale) * 0x1_0001;
                    unpacking.mins[r][j] = i32::from(scale) * i32::from(LARGEST) * 0x1_0001;
                }
                unpacking.d[r] = u16::from_le_bytes(*part(block, 0));
            }
            unpacking.put(tile, i, half);
        }
    }
}
