//! IQ2_XXS. The grid's lines are looked up as two bits a value, which the registers hold whole.

use std::arch::x86_64::*;

use ds4_gguf::blocks::iq2_xxs::{BLOCK_BYTES, GRID};

use super::{
    Activation, HELD, Held, ROWS, SUPER, Tile, Unpacking, fold4, lane_order, lanes_of, load, part, prefetch, store,
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

/// For each quarter of a block: bytes 0 to 2 of qword l are the low and the high byte of its line l, and the signs.
static GATHER: [[u8; 64]; 4] = {
    let mut places = [[0; 64]; 4];
    let mut i = 0;
    while i < 32 {
        let (quarter, line) = (i / 8, i % 8);
        let group = (8 * (i / 4)) as u8;
        let place = (i % 4) as u8;
        places[quarter][8 * line] = group + place;
        places[quarter][8 * line + 1] = 64 + group + place;
        places[quarter][8 * line + 2] = group + 4 + place;
        i += 1;
    }
    places
};

/// Registers that stay the same for all blocks.
pub(super) struct Tables {
    low: [__m512i; 4],
    high: [__m512i; 4],
    gather: [__m512i; 4],
    values: __m512i,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
    pub(super) fn new() -> Self {
        let zero = _mm512_setzero_si512();
        let mut tables = Self { low: [zero; 4], high: [zero; 4], gather: [zero; 4], values: zero };
        for i in 0..4 {
            tables.low[i] = load::<u8, 64>(part(&LINES[0], 64 * i));
            tables.high[i] = load::<u8, 64>(part(&LINES[1], 64 * i));
            tables.gather[i] = load(&GATHER[i]);
        }
        tables.values = _mm512_set1_epi32(i32::from_le_bytes(VALUES));
        tables
    }
}

/// A block on its way: eight qwords, one for each 32 elements.
pub(super) struct Block {
    /// Lower half of a qword: low bytes of its four lines; upper half: their signs
    low_and_signs: __m512i,
    /// High bytes of the lines
    high: __m512i,
    /// 2k + 1
    pub(super) scales: __m512i,
}

impl Block {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
    pub(super) fn new(block: &[u8; BLOCK_BYTES], t: &Tables) -> Self {
        let groups = load::<u8, 64>(part(block, 2));
        let upper = _mm512_movepi8_mask(groups);
        let low = look_up(groups, upper, &t.low);
        // The codes of seven bits from bit 32 on, as bytes; then bit 7 becomes the parity of the others.
        let codes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x352E_2720_0000_0000), groups);
        let signs = _mm512_gf2p8affine_epi64_epi8::<0>(codes, _mm512_set1_epi64(0x0102_0408_1020_407F));
        let twice_k = _mm512_and_si512(_mm512_srli_epi64(groups, 59), _mm512_set1_epi64(0x1E));
        Self {
            low_and_signs: _mm512_mask_blend_epi32(0xAAAA, low, signs),
            high: look_up(groups, upper, &t.high),
            scales: _mm512_or_si512(twice_k, _mm512_set1_epi64(1)),
        }
    }

    /// Grid values of elements 64·i to 64·i + 63, and which of them are negative.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bitalg")]
    pub(super) fn quarter(&self, i: usize, t: &Tables) -> (__m512i, __mmask64) {
        let lines = _mm512_permutex2var_epi8(self.low_and_signs, t.gather[i], self.high);
        let codes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x0E0C_0A08_0604_0200), lines);
        let negative = _mm512_bitshuffle_epi64_mask(lines, _mm512_set1_epi64(0x1716_1514_1312_1110));
        (_mm512_permutexvar_epi8(codes, t.values), negative)
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
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512bitalg,gfni,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let (tables, mut held) = (Tables::new(), Held::new());
    let q = x.q.as_chunks::<SUPER>().0;
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = _mm_setzero_ps();
        let blocks = row.as_chunks::<BLOCK_BYTES>().0;
        for (c, blocks) in blocks.chunks(HELD).enumerate() {
            let first = c * HELD;
            for (i, block) in blocks.iter().enumerate() {
                prefetch(block, BLOCK_BYTES);
                held.products[i] = products(block, &q[first + i], &tables);
                held.d[i] = u16::from_le_bytes(*part(block, 0));
            }
            held.end(blocks.len());
            lanes = held.add_to::<false>(&x.d[first..first + blocks.len()], 0.125, lanes);
        }
        *y = fold4(lanes_of(lanes));
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512bitalg,gfni")]
fn products(block: &[u8; BLOCK_BYTES], q: &[i8; SUPER], t: &Tables) -> __m512i {
    let (zero, block) = (_mm512_setzero_si512(), Block::new(block, t));
    let mut s = zero;
    for i in 0..4 {
        let (values, negative) = block.quarter(i, t);
        let q = load::<i8, 64>(part(q, 64 * i));
        let pairs = _mm512_maddubs_epi16(values, _mm512_mask_sub_epi8(q, negative, zero, q));
        // The first word of qword 2·i in the lower half, of the next one in the upper.
        let word = |qword: usize| _mm256_set1_epi16(4 * qword as i16);
        let places = _mm512_inserti64x4(_mm512_castsi256_si512(word(2 * i)), word(2 * i + 1), 1);
        s = _mm512_dpwssd_epi32(s, pairs, _mm512_permutexvar_epi16(places, block.scales));
    }
    s
}

/// Fills a tile with rows of `row_bytes` bytes; 128 is added to the quants.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bitalg,gfni,f16c")]
pub(super) fn unpack(w: &[u8], row_bytes: usize, tile: &mut Tile) {
    let last = w.len() / row_bytes - 1;
    let mut unpacking = Unpacking::new();
    let (zero, tables) = (_mm512_setzero_si512(), Tables::new());
    for (i, u) in lane_order(row_bytes / BLOCK_BYTES).enumerate() {
        for half in 0..ROWS / 16 {
            for r in 0..16 {
                let block: &[u8; BLOCK_BYTES] = part(w, (16 * half + r).min(last) * row_bytes + u * BLOCK_BYTES);
                let unpacked = Block::new(block, &tables);
                for (j, out) in unpacking.w[r].as_chunks_mut::<64>().0.iter_mut().enumerate() {
                    let (values, negative) = unpacked.quarter(j, &tables);
                    store(_mm512_mask_sub_epi8(values, negative, zero, values), out);
                }
                let mut scales = [0i64; 8];
                store(unpacked.scales, &mut scales);
                for j in 0..8 {
                    unpacking.scales[r][j] = scales[j] as i32;
                }
                unpacking.d[r] = u16::from_le_bytes(*part(block, 0));
            }
            unpacking.put::<true, false>(_mm512_set1_epi8(-128), tile, i, half);
        }
    }
}
