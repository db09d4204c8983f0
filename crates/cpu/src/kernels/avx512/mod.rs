//! Kernels for AVX-512 with VNNI, VBMI and GFNI. Only loads and stores are `unsafe` here; what calls in has
//! checked that the machine has the instructions.

#![allow(clippy::needless_range_loop, reason = "registers are numbered")]

use std::arch::x86_64::*;

pub(crate) mod float;
pub(crate) mod gemm;
pub(crate) mod indexer;
pub(crate) mod iq2_xxs;
pub(crate) mod limits;
pub(crate) mod q2_k;
pub(crate) mod q4_k;
pub(crate) mod q8_0;

use super::panels::lane_places;
use super::products::{Activation, SUPER, fold4};
use super::tile::{Line, ROWS, Tile};

/// How far ahead of a row's bytes memory is asked for when rows come one after another.
const AHEAD: usize = 4096;

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> __m512i {
    const { assert!(size_of::<T>() * N == 64) };
    // SAFETY: 64 bytes of plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_si512(x.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load_half<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> __m256i {
    const { assert!(size_of::<T>() * N == 32) };
    // SAFETY: 32 bytes of plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_loadu_si256(x.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load_quarter<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> __m128i {
    const { assert!(size_of::<T>() * N == 16) };
    // SAFETY: 16 bytes of plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(x.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load_f32(x: &[f32; 16]) -> __m512 {
    _mm512_castsi512_ps(load(x))
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load_eight(x: &[f32; 8]) -> __m256 {
    _mm256_castsi256_ps(load_half(x))
}

/// The `N` elements of `x` from `at`.
#[inline(always)]
fn part<T, const N: usize>(x: &[T], at: usize) -> &[T; N] {
    x[at..].first_chunk().expect("long enough")
}

/// Two times 32 bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn load_two<T: bytemuck::Pod, const N: usize>(low: &[T; N], high: &[T; N]) -> __m512i {
    _mm512_inserti64x4(_mm512_castsi256_si512(load_half(low)), load_half(high), 1)
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn lanes_of(x: __m128) -> [f32; 4] {
    let mut lanes = [0.0; 4];
    // SAFETY: room for four.
    #[allow(unsafe_code)]
    unsafe {
        _mm_storeu_ps(lanes.as_mut_ptr(), x);
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn all_lanes_of(x: __m512) -> [f32; 16] {
    let mut lanes = [0.0; 16];
    // SAFETY: room for sixteen.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_ps(lanes.as_mut_ptr(), x);
    }
    lanes
}

/// Asks for `bytes` bytes from `ahead` bytes after the start of `x`. Nothing is read: the place need not exist.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn prefetch(x: &[u8], ahead: usize, bytes: usize) {
    let ahead = x.as_ptr().wrapping_add(ahead).cast::<i8>();
    for line in 0..bytes.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_NTA>(ahead.wrapping_add(64 * line));
    }
}

/// Asks for part `i` of `parts` of the rows after `w`, as long as those: while a tile is unpacked row beside row, the next
/// one comes out of memory as one stream.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn prefetch_next_tile(w: &[u8], i: usize, parts: usize) {
    let each = w.len().div_ceil(parts);
    let next = w.as_ptr().wrapping_add(w.len() + i * each).cast::<i8>();
    for line in 0..each.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line));
    }
}

/// Adds up the four numbers of each 128-bit lane, for four vectors: number i of a lane is the sum of vector i's.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn add_in_lanes(x: [__m512i; 4]) -> __m512i {
    let low = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
    let high = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
    _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high))
}

/// [`add_in_lanes`] of half as wide vectors.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn add_in_half_lanes(x: [__m256i; 4]) -> __m256i {
    let low = _mm256_add_epi32(_mm256_unpacklo_epi32(x[0], x[1]), _mm256_unpackhi_epi32(x[0], x[1]));
    let high = _mm256_add_epi32(_mm256_unpacklo_epi32(x[2], x[3]), _mm256_unpackhi_epi32(x[2], x[3]));
    _mm256_add_epi32(_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high))
}

/// The sums of four vectors of 16 numbers.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn sums(x: [__m512i; 4]) -> __m128i {
    let x = add_in_lanes(x);
    let x = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1))
}

/// The sums of four vectors of 8 numbers.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn sums_of_halves(x: [__m256i; 4]) -> __m128i {
    let x = add_in_half_lanes(x);
    _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1))
}

/// Blocks of 256 columns whose integers are held before they enter the lanes. Two passes, because one would need more
/// registers than there are.
const HELD: usize = 16;

/// The integers of up to [`HELD`] blocks of a row; those of blocks that are not there are zero.
struct Held {
    /// 16 parts of Σ scale·w·q of each block
    products: [__m512i; HELD],
    /// 8 parts of Σ min·q of each block
    mins: [__m256i; HELD],
    /// `d` of each block, f16
    d: [u16; HELD],
    /// `dmin` of each block, f16
    dmin: [u16; HELD],
}

impl Held {
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl")]
    fn new() -> Self {
        Self {
            products: [_mm512_setzero_si512(); HELD],
            mins: [_mm256_setzero_si256(); HELD],
            d: [0; HELD],
            dmin: [0; HELD],
        }
    }

    /// Forgets the blocks from `used` on, where a row has no more of them.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl")]
    fn end(&mut self, used: usize) {
        for i in used..used.next_multiple_of(4) {
            self.products[i] = _mm512_setzero_si512();
            self.mins[i] = _mm256_setzero_si256();
            (self.d[i], self.dmin[i]) = (0, 0);
        }
    }

    /// Adds the blocks, whose activation scales are `dx`, to the four lanes. `unit` is what these count in.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
    fn add_to<const MINS: bool>(&self, dx: &[f32], unit: f32, lanes: __m128) -> __m128 {
        let mut lanes = lanes;
        for (i, dx) in dx.chunks(4).enumerate() {
            let dx = load_up_to_4(dx);
            let s = _mm_cvtepi32_ps(sums(*part(&self.products, 4 * i)));
            lanes =
                _mm_fmadd_ps(s, _mm_mul_ps(widen_4(part(&self.d, 4 * i)), _mm_mul_ps(dx, _mm_set1_ps(unit))), lanes);
            if MINS {
                let s = _mm_cvtepi32_ps(sums_of_halves(*part(&self.mins, 4 * i)));
                lanes = _mm_fnmadd_ps(s, _mm_mul_ps(widen_4(part(&self.dmin, 4 * i)), dx), lanes);
            }
        }
        lanes
    }
}

/// Four f16 values.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,f16c")]
fn widen_4(x: &[u16; 4]) -> __m128 {
    _mm_cvtph_ps(_mm_cvtsi64_si128(bytemuck::cast(*x)))
}

/// One to four values, then zeros.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn load_up_to_4(x: &[f32]) -> __m128 {
    // SAFETY: the mask keeps to the slice.
    #[allow(unsafe_code)]
    unsafe {
        _mm_maskz_loadu_ps((1 << x.len().min(4)) - 1, x.as_ptr())
    }
}

/// `(a + b) + (c + d)`
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn add_lanes(a: __m512, b: __m512, c: __m512, d: __m512, y: &mut [f32; 16]) {
    *y = all_lanes_of(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
}

/// Turns 32 bytes of each of 16 rows into eight registers that hold four bytes of every row; row r is at `rows(r)`.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn transpose<'a>(rows: impl Fn(usize) -> &'a [u8; 32]) -> [__m512i; 8] {
    let mut columns = [_mm512_setzero_si512(); 8];
    let mut halves = [[_mm512_setzero_si512(); 4]; 2];
    for half in 0..2 {
        let mut x = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            x[i] = load_two(rows(8 * half + i), rows(8 * half + i + 4));
        }
        let low = [_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpacklo_epi32(x[2], x[3])];
        let high = [_mm512_unpackhi_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[2], x[3])];
        halves[half] = [
            _mm512_unpacklo_epi64(low[0], low[1]),
            _mm512_unpackhi_epi64(low[0], low[1]),
            _mm512_unpacklo_epi64(high[0], high[1]),
            _mm512_unpackhi_epi64(high[0], high[1]),
        ];
    }
    for i in 0..4 {
        columns[i] = _mm512_shuffle_i64x2(halves[0][i], halves[1][i], 0x88);
        columns[i + 4] = _mm512_shuffle_i64x2(halves[0][i], halves[1][i], 0xDD);
    }
    columns
}

/// [`transpose`] of numbers.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq")]
fn transpose_numbers(rows: &[[i32; 8]; 16], out: &mut [[i32; 16]], half: usize) {
    let columns = transpose(|r| bytemuck::cast_ref(&rows[r]));
    for (i, column) in columns.into_iter().enumerate() {
        store(column, &mut out[2 * i + half]);
    }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn store<T: bytemuck::Pod, const N: usize>(x: __m512i, out: &mut [T; N]) {
    const { assert!(size_of::<T>() * N == 64) };
    // SAFETY: room for 64 bytes.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_si512(out.as_mut_ptr().cast(), x);
    }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn store_half(x: __m256i, out: &mut [u8; 32]) {
    // SAFETY: room for 32 bytes.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(out.as_mut_ptr().cast(), x);
    }
}

/// The f16 values of 16 rows.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,f16c")]
fn widen_16(x: &[u16; 16]) -> [f32; 16] {
    all_lanes_of(_mm512_cvtph_ps(load_half(x)))
}

/// One block of 256 columns of 16 rows on its way into a tile.
struct Unpacking {
    /// `[rows][columns]`
    w: [[u8; SUPER]; 16],
    /// `[rows][groups of 32]`
    scales: [[i32; 8]; 16],
    mins: [[i32; 8]; 16],
    d: [u16; 16],
    dmin: [u16; 16],
}

impl Unpacking {
    fn new() -> Self {
        Self { w: [[0; SUPER]; 16], scales: [[0; 8]; 16], mins: [[0; 8]; 16], d: [0; 16], dmin: [0; 16] }
    }

    /// Puts the block at place `i` of the tile's lane order.
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c")]
    fn put<const SCALED: bool, const MINS: bool>(&self, flip: __m512i, tile: &mut Tile, i: usize, half: usize) {
        for group in 0..8 {
            let columns = transpose(|r| part(&self.w[r], 32 * group));
            for (k, column) in columns.into_iter().enumerate() {
                store(_mm512_xor_si512(column, flip), &mut tile.w[2 * (SUPER / 4 * i + 8 * group + k) + half].0);
            }
        }
        tile.d[2 * i + half] = widen_16(&self.d);
        if SCALED {
            transpose_numbers(&self.scales, &mut tile.scales[16 * i..], half);
        }
        if MINS {
            transpose_numbers(&self.mins, &mut tile.mins[16 * i..], half);
            tile.dmin[2 * i + half] = widen_16(&self.dmin);
        }
    }
}
