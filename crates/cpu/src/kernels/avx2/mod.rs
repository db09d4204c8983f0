//! Kernels for AVX2 with FMA and F16C. Only loads and stores are `unsafe` here; what calls in has checked that the
//! machine has the instructions.
//!
//! The instruction that multiplies bytes takes one side unsigned. Where weights are signed it gets |w| and sign(q, w),
//! whose products are those of w and q, and no pair of them overflows: q is never -128.

#![allow(clippy::needless_range_loop, reason = "registers are numbered")]

use std::arch::x86_64::*;

pub(crate) mod float;
pub(crate) mod indexer;
pub(crate) mod iq2_xxs;
pub(crate) mod limits;
pub(crate) mod q2_k;
pub(crate) mod q4_k;
pub(crate) mod q8_0;

use super::products::{Activation, SUPER, fold4};

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
