//! Kernels for ARM with the dot product instructions. `unsafe` here are loads, stores and `sdot` itself; what calls in
//! has checked that the machine has the instructions.
//!
//! `sdot` multiplies signed bytes and adds four products to each of four 32-bit numbers, so weights and activations go
//! in as they are. Nothing asks for memory ahead; whether that would help is to be measured on a machine.

#![allow(clippy::needless_range_loop, reason = "registers are numbered")]

use std::arch::aarch64::*;
use std::arch::asm;

pub(crate) mod float;
pub(crate) mod indexer;
pub(crate) mod iq2_xxs;
pub(crate) mod limits;
pub(crate) mod q2_k;
pub(crate) mod q4_k;
pub(crate) mod q8_0;

use super::products::{Activation, SUPER, fold4};
use super::scalar::{BlockSums, super_row};

#[inline]
#[target_feature(enable = "neon")]
fn load<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> int8x16_t {
    const { assert!(size_of::<T>() * N == 16) };
    // SAFETY: 16 bytes of plain numbers.
    #[allow(unsafe_code)]
    unsafe {
        x.as_ptr().cast::<int8x16_t>().read_unaligned()
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_u8(x: &[u8; 16]) -> uint8x16_t {
    vreinterpretq_u8_s8(load(x))
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(x: &[f32; 4]) -> float32x4_t {
    vreinterpretq_f32_s8(load(x))
}

/// The `N` elements of `x` from `at`.
#[inline(always)]
fn part<T, const N: usize>(x: &[T], at: usize) -> &[T; N] {
    x[at..].first_chunk().expect("long enough")
}

/// Number i of `sum` plus the products of bytes 4i to 4i + 3. Written out because the standard library's `vdotq_s32` is
/// not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sum: int32x4_t, w: int8x16_t, q: int8x16_t) -> int32x4_t {
    // SAFETY: registers in, registers out; the machine has the instruction.
    #[allow(unsafe_code)]
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {q:v}.16b",
            sum = inout(vreg) sum, w = in(vreg) w, q = in(vreg) q,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// The sums of four vectors.
#[inline]
#[target_feature(enable = "neon")]
fn sums(x: [int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3]))
}

/// Four f16 values.
#[inline]
#[target_feature(enable = "neon")]
fn widen_4(x: [[u8; 2]; 4]) -> float32x4_t {
    vcvt_f32_f16(vreinterpret_f16_u16(vcreate_u16(bytemuck::cast(x))))
}

/// An f16 value.
#[inline]
#[target_feature(enable = "neon")]
fn widen(x: [u8; 2]) -> f32 {
    vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(u16::from_le_bytes(x)))))
}

/// Eight bytes as numbers, four and four.
#[inline]
#[target_feature(enable = "neon")]
fn widen_8(x: uint8x8_t) -> [int32x4_t; 2] {
    let words = vmovl_u8(x);
    [vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words))), vreinterpretq_s32_u32(vmovl_high_u16(words))]
}

#[inline]
#[target_feature(enable = "neon")]
fn lanes_of(x: float32x4_t) -> [f32; 4] {
    let mut lanes = [0.0; 4];
    // SAFETY: room for four.
    #[allow(unsafe_code)]
    unsafe {
        vst1q_f32(lanes.as_mut_ptr(), x);
    }
    lanes
}
