//! Q2_K.

use std::arch::aarch64::*;

use ds4_gguf::blocks::q2_k::BLOCK_BYTES;

use super::{Activation, BlockSums, SUPER, dot, load, load_u8, part, sums, super_row, widen, widen_8};

/// `y[r] = w[r] · x`
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        *y = super_row(row, x, 1.0, |block, q, by_16| BlockSums {
            d: widen(*part(block, 80)),
            dmin: widen(*part(block, 82)),
            products: vaddvq_s32(products(block, q)),
            mins: Some(vaddvq_s32(mins(block, by_16))),
        });
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn products(block: &[u8; BLOCK_BYTES], q: &[i8; SUPER]) -> int32x4_t {
    let scales = vandq_u8(load_u8(part(block, 0)), vdupq_n_u8(15));
    let scales = [widen_8(vget_low_u8(scales)), widen_8(vget_high_u8(scales))];
    let (mut s, three) = (vdupq_n_s32(0), vdupq_n_u8(3));
    for half in 0..2 {
        let mut packed = [load_u8(part(block, 16 + 32 * half)), load_u8(part(block, 32 + 32 * half))];
        for (i, scales) in scales[half].into_iter().enumerate() {
            // Of four sub-blocks.
            let mut subs = [vdupq_n_s32(0); 4];
            for j in 0..4 {
                let w = vreinterpretq_s8_u8(vandq_u8(packed[j % 2], three));
                packed[j % 2] = vshrq_n_u8::<2>(packed[j % 2]);
                subs[j] = dot(subs[j], w, load::<i8, 16>(part(q, 128 * half + 64 * i + 16 * j)));
            }
            s = vmlaq_s32(s, sums(subs), scales);
        }
    }
    s
}

/// Parts of Σ min·q.
#[inline]
#[target_feature(enable = "neon")]
fn mins(block: &[u8; BLOCK_BYTES], by_16: &[i16; 16]) -> int32x4_t {
    let mins = vshrq_n_u8::<4>(load_u8(part(block, 0)));
    let mins = [vmovl_u8(vget_low_u8(mins)), vmovl_high_u8(mins)];
    let mut s = vdupq_n_s32(0);
    for i in 0..2 {
        let (mins, by_16) = (vreinterpretq_s16_u16(mins[i]), vreinterpretq_s16_s8(load::<i16, 8>(part(by_16, 8 * i))));
        s = vmlal_s16(s, vget_low_s16(mins), vget_low_s16(by_16));
        s = vmlal_high_s16(s, mins, by_16);
    }
    s
}
