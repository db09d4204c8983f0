//! IQ2_XXS. The grid's lines are looked up as two bits a value, which the registers hold whole.

use std::arch::x86_64::*;

use ds4_gguf::blocks::iq2_xxs::{BLOCK_BYTES, GRID};

use super::{
    AHEAD, AHEAD_IN_TILE, Activation, HELD, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load,
    part, prefetch, store,
};

/// The values that two bits stand for.
const VALUES: [u8; 4] = [8, 25, 43, 0];

/// The lines of the grid as 16 bits each, element 0 lowest: all low bytes, then all high bytes.
static LINES: [[u8; 256]; 2] = {
    let mut lines = [[0; 256]; 2];
    let mut i = 0;
    while i < 256 {
        let mut j = 0;
        while j < 8 {
            let value = (GRID[i] >> (8 * j)) as u8;
            let code = if value == VALUES[0] {
                0
            } else if value == VALUES[1] {
                1
            } else {
                2
            };
            lines[j / 4][i] |= code << (2 * (j % 4));
            j += 1;
        }
        i += 1;
    }
    lines
};

/// Registers that stay the same for all blocks.
pub(super) struct Tables {
    low: [__m512i; 4],
    high: [__m512i; 4],
    values: __m512i,
    /// For each 128-bit lane: its eight words as the lowest of a qword each
    spread: [__m512i; 4],
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    pub(super) fn new() -> Self {
        let zero = _mm512_setzero_si512();
        let mut tables = Self { low: [zero; 4], high: [zero; 4], values: zero, spread: [zero; 4] };
        for i in 0..4 {
            tables.low[i] = load::<u8, 64>(part(&LINES[0], 64 * i));
            tables.high[i] = load::<u8, 64>(part(&LINES[1], 64 * i));
            let first = 8 * i as i64;
            tables.spread[i] = _mm512_add_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(first));
        }
        tables.values = _mm512_set1_epi32(i32::from_le_bytes(VALUES));
        tables
    }
}

/// Two blocks on their way, so that a register of indices is a full one.
pub(super) struct Pair {
    /// The lines as words: in each 128-bit lane the first eight of 16, and the others
    lines: [__m512i; 2],
    /// The signs of 64 elements each
    negative: [u64; 8],
    /// 2k + 1 of 32 elements each, in both words
    pub(super) scales: __m512i,
}

impl Pair {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
    pub(super) fn new(a: &[u8; BLOCK_BYTES], b: &[u8; BLOCK_BYTES], t: &Tables) -> Self {
        let (a, b) = (load::<u8, 64>(part(a, 2)), load::<u8, 64>(part(b, 2)));
        // Even dwords name four lines each, odd ones hold their signs and the scale.
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let names = _mm512_permutex2var_epi32(a, even, b);
        let rest = _mm512_permutex2var_epi32(a, _mm512_or_si512(even, _mm512_set1_epi32(1)), b);
        let upper = _mm512_movepi8_mask(names);
        let (low, high) = (look_up(names, upper, &t.low), look_up(names, upper, &t.high));
        // The codes of seven bits as bytes; then bit 7 becomes the parity of the others.
        let codes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x352E_2720_150E_0700), rest);
        let signs = _mm512_gf2p8affine_epi64_epi8::<0>(codes, _mm512_set1_epi64(0x0102_0408_1020_407F));
        let mut negative = [0; 8];
        store(signs, &mut negative);
        let twice_k = _mm512_and_si512(_mm512_srli_epi32(rest, 27), _mm512_set1_epi32(0x1E));
        let scales = _mm512_or_si512(twice_k, _mm512_set1_epi32(1));
        Self {
            lines: [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)],
            negative,
            scales: _mm512_or_si512(scales, _mm512_slli_epi32(scales, 16)),
        }
    }

    /// Grid values of elements 64·i to 64·i + 63 of both blocks, and which of them are negative.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi")]
    pub(super) fn quarter(&self, i: usize, t: &Tables) -> (__m512i, __mmask64) {
        let lines = _mm512_permutexvar_epi16(t.spread[i / 2], self.lines[i % 2]);
        let codes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x0E0C_0A08_0604_0200), lines);
        (_mm512_permutexvar_epi8(codes, t.values), self.negative[i])
    }

    /// Parts of Σ scale·w·q of the first block or the second.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi")]
    fn products(&self, block: usize, q: &[i8; SUPER], t: &Tables) -> __m512i {
        let zero = _mm512_setzero_si512();
        let mut s = zero;
        for i in 0..4 {
            let quarter = 4 * block + i;
            let (values, negative) = self.quarter(quarter, t);
            let q = load::<i8, 64>(part(q, 64 * i));
            let pairs = _mm512_maddubs_epi16(values, _mm512_mask_sub_epi8(q, negative, zero, q));
            let group = |g: usize| _mm256_set1_epi32(g as i32);
            let places = _mm512_inserti64x4(_mm512_castsi256_si512(group(2 * quarter)), group(2 * quarter + 1), 1);
            s = _mm512_dpwssd_epi32(s, pairs, _mm512_permutexvar_epi32(places, self.scales));
        }
        s
    }
}

/// The bytes of a table of 256 at `index`; `upper` is the mask of the indices from 128 on.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512vbmi")]
fn look_up(index: __m512i, upper: __mmask64, table: &[__m512i; 4]) -> __m512i {
    let first = _mm512_permutex2var_epi8(table[0], index, table[1]);
    let second = _mm512_permutex2var_epi8(table[2], index, table[3]);
    _mm512_mask_blend_epi8(upper, first, second)
}

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let (tables, mut held) = (Tables::new(), Held::new());
    let q = x.q.as_chunks::<SUPER>().0;
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = _mm_setzero_ps();
        let blocks = row.as_chunks::<BLOCK_BYTES>().0;
        for (c, blocks) in blocks.chunks(HELD).enumerate() {
            let first = c * HELD;
            for (i, two) in blocks.chunks(2).enumerate() {
                prefetch(&two[0], AHEAD, 2 * BLOCK_BYTES);
                let pair = Pair::new(&two[0], &two[two.len() - 1], &tables);
                for (j, block) in two.iter().enumerate() {
                    let place = 2 * i + j;
                    held.products[place] = pair.products(j, &q[first + place], &tables);
                    held.d[place] = u16::from_le_bytes(*part(block, 0));
                }
            }
            held.end(blocks.len());
            lanes = held.add_to::<false>(&x.d[first..first + blocks.len()], 0.125, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// Fills a tile with rows of `row_bytes` bytes; 128 is added to the quants.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi,gfni,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let last = w.len() / row_bytes - 1;
    let mut unpacking = Unpacking::new();
    let (zero, tables) = (_mm512_setzero_si512(), Tables::new());
    for (u, i) in lane_places(row_bytes / BLOCK_BYTES).enumerate() {
        for half in 0..ROWS / 16 {
            let block =
                |r: usize| -> &[u8; BLOCK_BYTES] { part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES) };
            for r in (0..16).step_by(2) {
                let two = [block(r), block(r + 1)];
                let pair = Pair::new(two[0], two[1], &tables);
                let mut scales = [[0i32; 8]; 2];
                store(
                    _mm512_and_si512(pair.scales, _mm512_set1_epi32(0xFFFF)),
                    bytemuck::cast_mut::<_, [i32; 16]>(&mut scales),
                );
                for j in 0..2 {
                    prefetch(two[j], AHEAD_IN_TILE, BLOCK_BYTES);
                    for (k, out) in unpacking.w[r + j].as_chunks_mut::<64>().0.iter_mut().enumerate() {
                        let (values, negative) = pair.quarter(4 * j + k, &tables);
                        store(_mm512_mask_sub_epi8(values, negative, zero, values), out);
                    }
                    unpacking.scales[r + j] = scales[j];
                    unpacking.d[r + j] = u16::from_le_bytes(*part(two[j], 0));
                }
            }
            unpacking.put::<true, false>(_mm512_set1_epi8(-128), tile, i, half);
        }
    }
}
