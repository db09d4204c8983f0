//! IQ2_XXS. Lines of the grid and signs are looked up in memory.

use std::arch::aarch64::*;

use ds4_gguf::blocks::iq2_xxs::{BLOCK_BYTES, GRID, SIGNS};

use super::{Activation, BlockSums, SUPER, dot, load, part, sums, super_row, widen};

/// `y[r] = w[r] · x`
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        *y = super_row(row, x, 0.125, |block, q, _| {
            let products = vaddvq_s32(products(block, q));
            BlockSums { d: widen(*part(block, 0)), dmin: 0.0, products, mins: None }
        });
    }
}

/// Parts of Σ scale·w·q.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn products(block: &[u8; BLOCK_BYTES], q: &[i8; SUPER]) -> int32x4_t {
    let mut s = vdupq_n_s32(0);
    for (half, groups) in block[2..].as_chunks::<32>().0.iter().enumerate() {
        let (mut subs, mut scales) = ([vdupq_n_s32(0); 4], [0; 4]);
        for (i, group) in groups.as_chunks::<8>().0.iter().enumerate() {
            let codes = u32::from_le_bytes(*part(group, 4));
            let line = |i: usize| vcreate_s8(GRID[usize::from(group[i])]);
            let sign = |i: usize| vcreate_s8(SIGNS[(codes >> (7 * i) & 127) as usize]);
            for pair in [0, 2] {
                let negative = vcombine_s8(sign(pair), sign(pair + 1));
                let w = vsubq_s8(veorq_s8(vcombine_s8(line(pair), line(pair + 1)), negative), negative);
                subs[i] = dot(subs[i], w, load::<i8, 16>(part(q, 128 * half + 32 * i + 8 * pair)));
            }
            scales[i] = 2 * (codes >> 28) as i32 + 1;
        }
        s = vmlaq_s32(s, sums(subs), vreinterpretq_s32_s8(load(&scales)));
    }
    s
}
