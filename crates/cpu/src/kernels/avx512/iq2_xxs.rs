//! IQ2_XXS. The grid's lines are looked up as two bits a value, which the registers hold whole.

use std::arch::x86_64::*;

use ds4_gguf::blocks::iq2_xxs::{BLOCK_BYTES, GRID};

use super::{
    AHEAD, AHEAD_IN_TILE, Activation, HELD, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load,
    load_up_to_4, part, prefetch, store, widen_4,
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
}

/// The bytes of a table of 256 at `index`; `upper` is the mask of the indices from 128 on.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512vbmi")]
fn look_up(index: __m512i, upper: __mmask64, table: &[__m512i; 4]) -> __m512i {
    let first = _mm512_permutex2var_epi8(table[0], index, table[1]);
    let second = _mm512_permutex2var_epi8(table[2], index, table[3]);
    _mm512_mask_blend_epi8(upper, first, second)
}

/// Rows that share one arrangement of the activations.
const TOGETHER: usize = 64;

/// Activations of up to [`HELD`] blocks, arranged as lines of weights come out of [`lines_of_two`]: pair by pair, groups
/// of 32 with an even number, then odd ones; of each, first all first lines.
#[repr(C, align(64))]
struct Arranged {
    q: [[i8; 64]; 4 * HELD],
    negated: [[i8; 64]; 4 * HELD],
}

impl Arranged {
    fn new() -> Self {
        Self { q: [[0; 64]; 4 * HELD], negated: [[0; 64]; 4 * HELD] }
    }

    /// Takes over the blocks `q`; those that are not there count as zero.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl")]
    fn fill(&mut self, q: &[[i8; SUPER]]) {
        for (i, (out, negated)) in self.q.iter_mut().zip(&mut self.negated).enumerate() {
            let (pair, odd, line) = (i / 8, i / 4 % 2, i % 4);
            for lane in 0..8 {
                let (block, group) = (2 * pair + lane % 2, lane / 2 * 2 + odd);
                let x: [i8; 8] = q.get(block).map_or([0; 8], |q| *part(q, 32 * group + 8 * line));
                out[8 * lane..][..8].copy_from_slice(&x);
            }
            for (n, x) in negated.iter_mut().zip(out) {
                *n = -*x;
            }
        }
    }
}

/// Σ scale·w·q of two blocks, in two numbers of each 128-bit lane for the first block and two for the second.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
fn lines_of_two(w: [&[u8; BLOCK_BYTES]; 2], q: &[[i8; 64]; 8], negated: &[[i8; 64]; 8], t: &Tables) -> __m512i {
    let [a, b] = w.map(|w| load::<u8, 64>(part(w, 2)));
    // Each qword is a group of 32: four names of lines, then their signs and the scale.
    let (even, odd) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let names = _mm512_shuffle_ps(_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd), 0x88);
    let names = _mm512_castps_si512(names);
    let upper = _mm512_movepi8_mask(names);
    let (low, high) = (look_up(names, upper, &t.low), look_up(names, upper, &t.high));
    let (q, negated) = (q.as_chunks::<4>().0, negated.as_chunks::<4>().0);
    let even = groups(_mm512_unpacklo_epi8(low, high), even, &q[0], &negated[0], t);
    let odd = groups(_mm512_unpackhi_epi8(low, high), odd, &q[1], &negated[1], t);
    _mm512_add_epi32(even, odd)
}

/// Σ scale·w·q of eight groups of 32, in two numbers each. A qword of `lines` holds four lines of a group as words.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
fn groups(lines: __m512i, rest: __m512i, q: &[[i8; 64]; 4], negated: &[[i8; 64]; 4], t: &Tables) -> __m512i {
    // Bit 7 of the signs is the parity of the others.
    let bits = _mm512_set1_epi64(0x7F40_2010_0804_0201);
    let mut s = _mm512_setzero_si512();
    for i in 0..4 {
        let codes = _mm512_set1_epi64(0x0E0C_0A08_0604_0200 + 0x1010_1010_1010_1010 * i as i64);
        let values = _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(codes, lines), t.values);
        let signs = _mm512_multishift_epi64_epi8(_mm512_set1_epi8(32 + 7 * i as i8), rest);
        let negative = _mm512_gf2p8affine_epi64_epi8::<0>(bits, signs);
        let signed = _mm512_ternarylogic_epi32(negative, load(&q[i]), load(&negated[i]), 0xAC);
        s = _mm512_dpbusd_epi32(s, values, signed);
    }
    let twice_k = _mm512_and_si512(_mm512_srli_epi32(rest, 27), _mm512_set1_epi32(0x1E));
    let scales = _mm512_shuffle_epi32(_mm512_or_si512(twice_k, _mm512_set1_epi32(1)), 0xF5);
    _mm512_mullo_epi32(s, scales)
}

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let (tables, mut arranged) = (Tables::new(), Arranged::new());
    for (rows, y) in w.chunks(TOGETHER * row_bytes).zip(y.chunks_mut(TOGETHER)) {
        let mut lanes = [_mm_setzero_ps(); TOGETHER];
        for (c, q) in x.q.as_chunks::<SUPER>().0.chunks(HELD).enumerate() {
            arranged.fill(q);
            let dx = &x.d[c * HELD..][..q.len()];
            for (row, lanes) in rows.chunks_exact(row_bytes).zip(&mut lanes) {
                let blocks = &row.as_chunks::<BLOCK_BYTES>().0[c * HELD..][..q.len()];
                *lanes = add_blocks(blocks, &arranged, dx, &tables, *lanes);
            }
        }
        for (y, lanes) in y.iter_mut().zip(lanes) {
            *y = fold4(lanes_of(lanes));
        }
    }
}

/// Adds up to [`HELD`] blocks of a row to its lanes. Sums of all blocks first: in one pass there are too few registers.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
fn add_blocks(blocks: &[[u8; BLOCK_BYTES]], x: &Arranged, dx: &[f32], tables: &Tables, lanes: __m128) -> __m128 {
    let mut sums = [_mm512_setzero_si512(); HELD / 2];
    let mut d = [0u16; HELD];
    let (q, negated) = (x.q.as_chunks::<8>().0, x.negated.as_chunks::<8>().0);
    for (i, two) in blocks.chunks(2).enumerate() {
        prefetch(&two[0], AHEAD, 2 * BLOCK_BYTES);
        sums[i] = lines_of_two([&two[0], &two[two.len() - 1]], &q[i], &negated[i], tables);
        for (d, block) in d[2 * i..].iter_mut().zip(two) {
            *d = u16::from_le_bytes(*part(block, 0));
        }
    }
    let mut lanes = lanes;
    for ((sums, d), dx) in sums.as_chunks::<2>().0.iter().zip(d.as_chunks::<4>().0).zip(dx.chunks(4)) {
        let s = _mm_cvtepi32_ps(sums_of_four(sums));
        lanes = _mm_fmadd_ps(s, _mm_mul_ps(widen_4(d), _mm_mul_ps(load_up_to_4(dx), _mm_set1_ps(0.125))), lanes);
    }
    lanes
}

/// The sums of four blocks, from those of two pairs.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn sums_of_four(pairs: &[__m512i; 2]) -> __m128i {
    let [a, b] = pairs.map(|p| _mm512_castsi512_ps(p));
    let (even, odd) = (_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
    let x = _mm512_add_epi32(_mm512_castps_si512(even), _mm512_castps_si512(odd));
    let x = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1))
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
