//! Q4_K.

use std::arch::aarch64::*;

use ds4_gguf::blocks::q4_k::{BLOCK_BYTES, scales_and_mins};

use super::{Activation, BlockSums, SUPER, dot, load, load_u8, part, sums, super_row, widen, widen_8};

/// `y[r] = w[r] · x`
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        *y = super_row(row, x, 1.0, |block, q, by_16| {
            let (scales, mins) = scales_and_mins(block);
            BlockSums {
                d: widen(*part(block, 0)),
                dmin: widen(*part(block, 2)),
                products: vaddvq_s32(products(block, scales, q)),
                mins: Some(vaddvq_s32(sum_of_mins(mins, by_16))),
            }
        });
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn products(block: &[u8; BLOCK_BYTES], scales: [u8; 8], q: &[i8; SUPER]) -> int32x4_t {
    let (mut s, fifteen) = (vdupq_n_s32(0), vdupq_n_u8(15));
    for (half, scales) in widen_8(vcreate_u8(u64::from_le_bytes(scales))).into_iter().enumerate() {
        // Of four sub-blocks.
        let mut subs = [vdupq_n_s32(0); 4];
        for i in 0..4 {
            // 16 columns of a sub-block, and 16 of the next.
            let (pair, at) = (2 * half + i / 2, 16 * (i % 2));
            let packed = load_u8(part(block, 16 + 32 * pair + at));
            let low = vreinterpretq_s8_u8(vandq_u8(packed, fifteen));
            let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(packed));
            let sub = 2 * (i / 2);
            subs[sub] = dot(subs[sub], low, load::<i8, 16>(part(q, 64 * pair + at)));
            subs[sub + 1] = dot(subs[sub + 1], high, load::<i8, 16>(part(q, 64 * pair + 32 + at)));
        }
        s = vmlaq_s32(s, sums(subs), scales);
    }
    s
}

/// Parts of Σ min·q.
#[inline]
#[target_feature(enable = "neon")]
fn sum_of_mins(mins: [u8; 8], by_16: &[i16; 16]) -> int32x4_t {
    let mins = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(u64::from_le_bytes(mins))));
    let words = |at: usize| vreinterpretq_s16_s8(load::<i16, 8>(part(by_16, at)));
    let by_32 = vpaddq_s16(words(0), words(8));
    vmlal_high_s16(vmull_s16(vget_low_s16(mins), vget_low_s16(by_32)), mins, by_32)
}
