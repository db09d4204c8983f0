//! Q8_0.

use std::arch::aarch64::*;

use ds4_gguf::blocks::q8_0::{BLOCK_BYTES, BLOCK_LEN};

use super::{Activation, dot, fold4, lanes_of, load, load_f32, part, sums, widen_4};
use crate::kernels::scalar;

/// Blocks at a time.
const GROUP: usize = 4;
const GROUP_BYTES: usize = GROUP * BLOCK_BYTES;
const GROUP_LEN: usize = GROUP * BLOCK_LEN;

/// `y[r] = w[r] · x`
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let (groups, rest) = row.as_chunks::<GROUP_BYTES>();
        let mut lanes = vdupq_n_f32(0.0);
        let (q, d) = (x.q.as_chunks::<GROUP_LEN>().0, x.d.as_chunks::<GROUP>().0);
        for ((w, q), d) in groups.iter().zip(q).zip(d) {
            let s = vcvtq_f32_s32(integers(w, q));
            lanes = vfmaq_f32(lanes, s, vmulq_f32(scales(w), load_f32(d)));
        }
        let mut lanes = lanes_of(lanes);
        scalar::q8_0::add_blocks(rest, &x.q[groups.len() * GROUP_LEN..], &x.d[groups.len() * GROUP..], &mut lanes);
        *y = fold4(lanes);
    }
}

/// Σ w·q of 4 blocks.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn integers(w: &[u8; GROUP_BYTES], q: &[i8; GROUP_LEN]) -> int32x4_t {
    let mut s = [vdupq_n_s32(0); GROUP];
    for i in 0..GROUP {
        for half in 0..2 {
            let w = load::<u8, 16>(part(w, BLOCK_BYTES * i + 2 + 16 * half));
            s[i] = dot(s[i], w, load::<i8, 16>(part(q, BLOCK_LEN * i + 16 * half)));
        }
    }
    sums(s)
}

/// `d` of 4 blocks.
#[inline]
#[target_feature(enable = "neon")]
fn scales(w: &[u8; GROUP_BYTES]) -> float32x4_t {
    let d = |i: usize| *part(w, BLOCK_BYTES * i);
    widen_4([d(0), d(1), d(2), d(3)])
}
