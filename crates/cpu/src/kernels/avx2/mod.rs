//! Kernels for AVX2 with FMA and F16C. Only loads and stores are `unsafe` here; what calls in has checked that the
//! machine has the instructions.
//!
//! The instruction that multiplies bytes takes one side unsigned and adds up pairs in 16 bits. Where weights are signed
//! it gets |w| and sign(q, w), whose products are those of w and q, and no pair of them overflows: q is never -128.
//! Products of matrices have other ways (`gemm`).

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
use super::tile::{ROWS, Tile};

/// How far ahead of the row's bytes memory is asked for.
const AHEAD: usize = 4096;

#[inline]
#[target_feature(enable = "avx2")]
fn load<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> __m256i {
    const { assert!(size_of::<T>() * N == 32) };
    // SAFETY: 32 bytes of plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_loadu_si256(x.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> __m128i {
    const { assert!(size_of::<T>() * N == 16) };
    // SAFETY: 16 bytes of plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        _mm_loadu_si128(x.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(x: &[f32; 8]) -> __m256 {
    _mm256_castsi256_ps(load(x))
}

/// The `N` elements of `x` from `at`.
#[inline(always)]
fn part<T, const N: usize>(x: &[T], at: usize) -> &[T; N] {
    x[at..].first_chunk().expect("long enough")
}

/// Asks for `bytes` bytes from `AHEAD` bytes after the start of `x`. Nothing is read: the place need not exist.
#[inline]
#[target_feature(enable = "avx2")]
fn prefetch(x: &[u8], bytes: usize) {
    let ahead = x.as_ptr().wrapping_add(AHEAD).cast::<i8>();
    for line in 0..bytes.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64 * line));
    }
}

/// Asks for part `i` of `parts` of the rows after `w`, as long as those: while a tile is unpacked row beside row, the next
/// one comes out of memory as one stream.
#[inline]
#[target_feature(enable = "avx2")]
fn prefetch_next_tile(w: &[u8], i: usize, parts: usize) {
    let each = w.len().div_ceil(parts);
    let next = w.as_ptr().wrapping_add(w.len() + i * each).cast::<i8>();
    for line in 0..each.div_ceil(64) {
        _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line));
    }
}

/// The sums of two groups of four vectors of 8 numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn sums(x: [__m256i; 8]) -> __m256i {
    let low = add_in_lanes([x[0], x[1], x[2], x[3]]);
    let high = add_in_lanes([x[4], x[5], x[6], x[7]]);
    _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31))
}

/// Adds up the four numbers of each 128-bit lane, for four vectors: number i of a lane is the sum of vector i's.
#[inline]
#[target_feature(enable = "avx2")]
fn add_in_lanes(x: [__m256i; 4]) -> __m256i {
    let low = _mm256_add_epi32(_mm256_unpacklo_epi32(x[0], x[1]), _mm256_unpackhi_epi32(x[0], x[1]));
    let high = _mm256_add_epi32(_mm256_unpacklo_epi32(x[2], x[3]), _mm256_unpackhi_epi32(x[2], x[3]));
    _mm256_add_epi32(_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high))
}

/// The integers of up to four blocks of 256 columns; those of blocks that are not there are zero.
struct Held {
    /// 8 parts of Σ scale·w·q of each block
    products: [__m256i; 4],
    /// 8 parts of Σ min·q of each block
    mins: [__m256i; 4],
    /// `d` of each block, f16
    d: [u16; 4],
    /// `dmin` of each block, f16
    dmin: [u16; 4],
    /// Scale of the activations in each block
    dx: [f32; 4],
}

impl Held {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(dx: &[f32]) -> Self {
        let zero = _mm256_setzero_si256();
        let mut held = Self { products: [zero; 4], mins: [zero; 4], d: [0; 4], dmin: [0; 4], dx: [0.0; 4] };
        held.dx[..dx.len()].copy_from_slice(dx);
        held
    }

    /// Adds the blocks to the four lanes. `unit` is what the activations' scales count in.
    #[inline]
    #[target_feature(enable = "avx2,f16c,fma")]
    fn add_to<const MINS: bool>(&self, unit: f32, lanes: __m128) -> __m128 {
        let dx: __m128 = _mm_setr_ps(self.dx[0], self.dx[1], self.dx[2], self.dx[3]);
        let [p, m] = [self.products, self.mins];
        let both = sums([p[0], p[1], p[2], p[3], m[0], m[1], m[2], m[3]]);
        let scale = _mm_mul_ps(widen_4(&self.d), _mm_mul_ps(dx, _mm_set1_ps(unit)));
        let lanes = _mm_fmadd_ps(_mm_cvtepi32_ps(_mm256_castsi256_si128(both)), scale, lanes);
        if !MINS {
            return lanes;
        }
        let scale = _mm_mul_ps(widen_4(&self.dmin), dx);
        _mm_fnmadd_ps(_mm_cvtepi32_ps(_mm256_extracti128_si256(both, 1)), scale, lanes)
    }
}

/// Four f16 values.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen_4(x: &[u16; 4]) -> __m128 {
    _mm_cvtph_ps(_mm_cvtsi64_si128(bytemuck::cast(*x)))
}

#[inline]
#[target_feature(enable = "avx2")]
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
#[target_feature(enable = "avx2")]
fn store<T: bytemuck::Pod, const N: usize>(x: __m256i, out: &mut [T; N]) {
    const { assert!(size_of::<T>() * N == 32) };
    // SAFETY: room for 32 bytes.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(out.as_mut_ptr().cast(), x);
    }
}

/// `(a + b) + (c + d)`
#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes(a: __m256, b: __m256, c: __m256, d: __m256, y: &mut [f32; 8]) {
    store(_mm256_castps_si256(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d))), y);
}

/// Turns 32 bytes of each of 8 rows into eight registers that hold four bytes of every row; row r is at `rows(r)`.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose<'a>(rows: impl Fn(usize) -> &'a [u8; 32]) -> [__m256i; 8] {
    let mut columns = [_mm256_setzero_si256(); 8];
    for half in 0..2 {
        let mut x = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            let [upper, lower] = [rows(i), rows(i + 4)].map(|row| load_half::<u8, 16>(part(row, 16 * half)));
            x[i] = _mm256_setr_m128i(upper, lower);
        }
        let low = [_mm256_unpacklo_epi32(x[0], x[1]), _mm256_unpacklo_epi32(x[2], x[3])];
        let high = [_mm256_unpackhi_epi32(x[0], x[1]), _mm256_unpackhi_epi32(x[2], x[3])];
        columns[4 * half] = _mm256_unpacklo_epi64(low[0], low[1]);
        columns[4 * half + 1] = _mm256_unpackhi_epi64(low[0], low[1]);
        columns[4 * half + 2] = _mm256_unpacklo_epi64(high[0], high[1]);
        columns[4 * half + 3] = _mm256_unpackhi_epi64(high[0], high[1]);
    }
    columns
}

/// The f16 values of 16 rows.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen_16(x: &[u16; 16]) -> [f32; 16] {
    let mut wide = [0.0; 16];
    for (x, wide) in x.as_chunks::<8>().0.iter().zip(wide.as_chunks_mut::<8>().0) {
        store(_mm256_castps_si256(_mm256_cvtph_ps(load_half(x))), wide);
    }
    wide
}

/// One block of 256 columns of 16 rows on its way into a tile.
struct Unpacking {
    /// `[rows][columns]`, without sign
    w: [[u8; SUPER]; 16],
    /// `[rows][groups of 32]`: multipliers of 16 columns each, as words
    scales: [[i32; 8]; 16],
    /// `[rows][groups of 32]`: multipliers of the sums of 16 columns each, as words
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
    #[target_feature(enable = "avx2,f16c")]
    fn put(&self, tile: &mut Tile, i: usize, half: usize) {
        let lines = &mut tile.w[SUPER / 2 * i..][..SUPER / 2];
        for eight in 0..2 {
            for (group, lines) in lines.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let columns = transpose(|r| part(&self.w[8 * eight + r], 32 * group));
                for (k, column) in columns.into_iter().enumerate() {
                    store(column, &mut lines[2 * k + half].0.as_chunks_mut::<32>().0[eight]);
                }
            }
            for (rows, out) in [(&self.scales, &mut tile.scales), (&self.mins, &mut tile.mins)] {
                let columns = transpose(|r| bytemuck::cast_ref(&rows[8 * eight + r]));
                for (k, column) in columns.into_iter().enumerate() {
                    store(column, &mut out[2 * (8 * i + k) + half].as_chunks_mut::<8>().0[eight]);
                }
            }
        }
        tile.d[2 * i + half] = widen_16(&self.d);
        tile.dmin[2 * i + half] = widen_16(&self.dmin);
    }
}
