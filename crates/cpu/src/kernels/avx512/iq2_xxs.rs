//! IQ2_XXS. The grid's lines are looked up as two bits a value, which the registers hold whole.

use std::arch::x86_64::*;

use ds4_gguf::blocks::iq2_xxs::{BLOCK_BYTES, GRID};

use super::{
    AHEAD, Activation, HELD, ROWS, SUPER, Tile, Unpacking, fold4, lane_places, lanes_of, load, load_up_to_4, part,
    prefetch, prefetch_next_tile, store, widen_4,
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

/// Activations of up to [`HELD`] blocks, arranged as lines of weights come out of [`Two`]: pair by pair, groups of 32
/// with an even number, then odd ones; of each, first all first lines.
#[repr(C, align(64))]
struct Arranged([[i8; 64]; 4 * HELD]);

impl Arranged {
    /// Blocks that are not there count as zero.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl")]
    fn fill(&mut self, q: &[[i8; SUPER]]) {
        for (i, out) in self.0.iter_mut().enumerate() {
            let (pair, odd, line) = (i / 8, i / 4 % 2, i % 4);
            for lane in 0..8 {
                let (block, group) = (2 * pair + lane % 2, lane / 2 * 2 + odd);
                let x: [i8; 8] = q.get(block).map_or([0; 8], |q| *part(q, 32 * group + 8 * line));
                out[8 * lane..][..8].copy_from_slice(&x);
            }
        }
    }

    /// What belongs to pair `i`.
    #[inline(always)]
    fn pair(&self, i: usize) -> &[[[i8; 64]; 4]; 2] {
        self.0.as_chunks::<4>().0[2 * i..].first_chunk().expect("a pair")
    }
}

/// Two blocks side by side: in each 128-bit lane a qword of the first block, then one of the second.
struct Two {
    /// A qword holds four lines of a group of 32 as words: of groups with an even number, then odd ones
    lines: [__m512i; 2],
    /// The groups as stored: four names of lines, then their signs and the scale
    groups: [__m512i; 2],
}

impl Two {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi")]
    fn new(w: [&[u8; BLOCK_BYTES]; 2], t: &Tables) -> Self {
        let [a, b] = w.map(|w| load::<u8, 64>(part(w, 2)));
        let groups = [_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)];
        let names = _mm512_shuffle_ps(_mm512_castsi512_ps(groups[0]), _mm512_castsi512_ps(groups[1]), 0x88);
        let names = _mm512_castps_si512(names);
        let upper = _mm512_movepi8_mask(names);
        let (low, high) = (look_up(names, upper, &t.low), look_up(names, upper, &t.high));
        Self { lines: [_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)], groups }
    }

    /// Grid values of line `i` of each group in `half`, and bytes of ones where they are negative.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
    fn line(&self, half: usize, i: usize, t: &Tables) -> (__m512i, __m512i) {
        let codes = _mm512_set1_epi64(0x0E0C_0A08_0604_0200 + 0x1010_1010_1010_1010 * i as i64);
        let values = _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(codes, self.lines[half]), t.values);
        // Bit 7 of the signs is the parity of the others.
        let bits = _mm512_set1_epi64(0x7F40_2010_0804_0201);
        let signs = _mm512_multishift_epi64_epi8(_mm512_set1_epi8(32 + 7 * i as i8), self.groups[half]);
        (values, _mm512_gf2p8affine_epi64_epi8::<0>(bits, signs))
    }

    /// 2k + 1 of each group, in both of its numbers.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl")]
    fn scales(&self, half: usize) -> __m512i {
        let twice_k = _mm512_and_si512(_mm512_srli_epi32(self.groups[half], 27), _mm512_set1_epi32(0x1E));
        _mm512_shuffle_epi32(_mm512_or_si512(twice_k, _mm512_set1_epi32(1)), 0xF5)
    }

    /// Σ scale·w·q in two numbers of each 128-bit lane for the first block, and two for the second. `negated` is -q.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
    fn products(&self, q: &[[[i8; 64]; 4]; 2], negated: &[[[i8; 64]; 4]; 2], t: &Tables) -> __m512i {
        let mut sums = [_mm512_setzero_si512(); 2];
        for half in 0..2 {
            for i in 0..4 {
                let (values, negative) = self.line(half, i, t);
                let signed = _mm512_ternarylogic_epi32(negative, load(&q[half][i]), load(&negated[half][i]), 0xAC);
                sums[half] = _mm512_dpbusd_epi32(sums[half], values, signed);
            }
            sums[half] = _mm512_mullo_epi32(sums[half], self.scales(half));
        }
        _mm512_add_epi32(sums[0], sums[1])
    }

    /// The same for several tokens, whose `q` are 128 larger than they count: here the weights carry the signs.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
    fn products_of<const T: usize>(&self, q: [&[[[i8; 64]; 4]; 2]; T], t: &Tables) -> [__m512i; T] {
        let (zero, too_many) = (_mm512_setzero_si512(), _mm512_set1_epi8(-128));
        let (mut sums, mut excess) = ([zero; T], zero);
        for half in 0..2 {
            let (mut parts, mut offset) = ([zero; T], zero);
            for i in 0..4 {
                let (values, negative) = self.line(half, i, t);
                let signed = _mm512_sub_epi8(_mm512_xor_si512(values, negative), negative);
                offset = _mm512_dpbusd_epi32(offset, too_many, signed);
                for t in 0..T {
                    parts[t] = _mm512_dpbusd_epi32(parts[t], load(&q[t][half][i]), signed);
                }
            }
            let scales = self.scales(half);
            excess = _mm512_add_epi32(excess, _mm512_mullo_epi32(offset, scales));
            for t in 0..T {
                sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(parts[t], scales));
            }
        }
        sums.map(|sum| _mm512_sub_epi32(sum, excess))
    }
}

/// Rows that share one arrangement of the activations.
const TOGETHER: usize = 64;

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    let tables = Tables::new();
    let (mut q, mut negated) = (Arranged([[0; 64]; 4 * HELD]), Arranged([[0; 64]; 4 * HELD]));
    for (rows, y) in w.chunks(TOGETHER * row_bytes).zip(y.chunks_mut(TOGETHER)) {
        let mut lanes = [_mm_setzero_ps(); TOGETHER];
        for (c, blocks) in x.q.as_chunks::<SUPER>().0.chunks(HELD).enumerate() {
            q.fill(blocks);
            for (negated, q) in negated.0.as_flattened_mut().iter_mut().zip(q.0.as_flattened()) {
                *negated = -*q;
            }
            let dx = &x.d[c * HELD..][..blocks.len()];
            for (row, lanes) in rows.chunks_exact(row_bytes).zip(&mut lanes) {
                let blocks = &row.as_chunks::<BLOCK_BYTES>().0[c * HELD..][..blocks.len()];
                let products = |i: usize, two: Two| [two.products(q.pair(i), negated.pair(i), &tables)];
                [*lanes] = add_blocks(blocks, [dx], &tables, products, [*lanes]);
            }
        }
        for (y, lanes) in y.iter_mut().zip(lanes) {
            *y = fold4(lanes_of(lanes));
        }
    }
}

/// `put(t, r, y)` gets `y = w[r..] · x[t]` for rows from r on.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
pub(crate) fn mat_few<const T: usize>(
    w: &[u8],
    row_bytes: usize,
    x: [Activation<'_>; T],
    put: &mut impl FnMut(usize, usize, &[f32]),
) {
    let tables = Tables::new();
    let mut q: [Arranged; T] = std::array::from_fn(|_| Arranged([[0; 64]; 4 * HELD]));
    for (first, rows) in w.chunks(TOGETHER * row_bytes).enumerate() {
        let mut lanes = [[_mm_setzero_ps(); T]; TOGETHER];
        for c in 0..(row_bytes / BLOCK_BYTES).div_ceil(HELD) {
            for (q, x) in q.iter_mut().zip(&x) {
                let blocks = x.q[c * HELD * SUPER..].as_chunks::<SUPER>().0;
                q.fill(&blocks[..blocks.len().min(HELD)]);
                q.0.as_flattened_mut().iter_mut().for_each(|q| *q ^= i8::MIN);
            }
            let dx: [&[f32]; T] = std::array::from_fn(|t| &x[t].d[c * HELD..x[t].d.len().min((c + 1) * HELD)]);
            for (row, lanes) in rows.chunks_exact(row_bytes).zip(&mut lanes) {
                let blocks = &row.as_chunks::<BLOCK_BYTES>().0[c * HELD..][..dx[0].len()];
                let products = |i: usize, two: Two| {
                    let q: [_; T] = std::array::from_fn(|t| q[t].pair(i));
                    two.products_of(q, &tables)
                };
                *lanes = add_blocks(blocks, dx, &tables, products, *lanes);
            }
        }
        let mut y = [0.0; TOGETHER];
        let here = rows.len() / row_bytes;
        for t in 0..T {
            for (y, lanes) in y.iter_mut().zip(&lanes[..here]) {
                *y = fold4(lanes_of(lanes[t]));
            }
            put(t, first * TOGETHER, &y[..here]);
        }
    }
}

/// Adds up to [`HELD`] blocks of a row to its lanes. Sums of all blocks first: in one pass there are too few registers.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
fn add_blocks<const T: usize>(
    blocks: &[[u8; BLOCK_BYTES]],
    dx: [&[f32]; T],
    tables: &Tables,
    products: impl Fn(usize, Two) -> [__m512i; T],
    mut lanes: [__m128; T],
) -> [__m128; T] {
    let mut sums = [[_mm512_setzero_si512(); T]; HELD / 2];
    let mut d = [0u16; HELD];
    for (i, two) in blocks.chunks(2).enumerate() {
        prefetch(&two[0], AHEAD, 2 * BLOCK_BYTES);
        sums[i] = products(i, Two::new([&two[0], &two[two.len() - 1]], tables));
        for (d, block) in d[2 * i..].iter_mut().zip(two) {
            *d = u16::from_le_bytes(*part(block, 0));
        }
    }
    for (i, (sums, d)) in sums.as_chunks::<2>().0.iter().zip(d.as_chunks::<4>().0).enumerate() {
        let d = widen_4(d);
        for t in 0..T {
            let dx = load_up_to_4(&dx[t][dx[t].len().min(4 * i)..]);
            let s = _mm_cvtepi32_ps(sums_of_four(sums[0][t], sums[1][t]));
            lanes[t] = _mm_fmadd_ps(s, _mm_mul_ps(d, _mm_mul_ps(dx, _mm_set1_ps(0.125))), lanes[t]);
        }
    }
    lanes
}

/// The sums of four blocks, from those of two pairs.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn sums_of_four(a: __m512i, b: __m512i) -> __m128i {
    let (a, b) = (_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
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
    let units = row_bytes / BLOCK_BYTES;
    for (u, i) in lane_places(units).enumerate() {
        prefetch_next_tile(w, u, units);
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
