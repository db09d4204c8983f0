//! F32, F16 and BF16 in 16 lanes, which are four registers.

use std::arch::aarch64::*;

use ds4_gguf::Format;

use super::{lanes_of, load, load_f32, part};
use crate::kernels::math::{LANES, fold};
use crate::kernels::scalar;

/// Rows at a time: enough to hide the latency of their sums.
const ROWS: usize = 4;

/// `y[r] = w[r] · x`
#[target_feature(enable = "neon")]
pub(crate) fn mat_vec(format: Format, w: &[u8], x: &[f32], y: &mut [f32]) {
    match format {
        Format::F16 => products::<32>(format, w, x, y, |w| {
            let half = |at: usize| vreinterpretq_f16_s8(load::<u8, 16>(part(w, at)));
            let (a, b) = (half(0), half(16));
            [vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a), vcvt_f32_f16(vget_low_f16(b)), vcvt_high_f32_f16(b)]
        }),
        Format::BF16 => products::<32>(format, w, x, y, |w| {
            let half = |at: usize| vreinterpretq_u16_s8(load::<u8, 16>(part(w, at)));
            let (a, b) = (half(0), half(16));
            [
                vshll_n_u16::<16>(vget_low_u16(a)),
                vshll_high_n_u16::<16>(a),
                vshll_n_u16::<16>(vget_low_u16(b)),
                vshll_high_n_u16::<16>(b),
            ]
            .map(|x| vreinterpretq_f32_u32(x))
        }),
        _ => products::<64>(format, w, x, y, |w| {
            let quarter = |at: usize| vreinterpretq_f32_s8(load::<u8, 16>(part(w, at)));
            [quarter(0), quarter(16), quarter(32), quarter(48)]
        }),
    }
}

/// Products of rows whose 16 elements take `N` bytes.
#[inline]
#[target_feature(enable = "neon")]
fn products<const N: usize>(
    format: Format,
    w: &[u8],
    x: &[f32],
    y: &mut [f32],
    widen: impl Fn(&[u8; N]) -> [float32x4_t; 4],
) {
    let row_bytes = w.len() / y.len().max(1);
    let (xs, x_rest) = x.as_chunks::<LANES>();
    for (rows, y) in w.chunks(ROWS * row_bytes).zip(y.chunks_mut(ROWS)) {
        // The last group repeats its last row.
        let row = |r: usize| &rows[r.min(y.len() - 1) * row_bytes..][..row_bytes];
        let w = [row(0), row(1), row(2), row(3)];
        let whole: [&[[u8; N]]; ROWS] = [chunks(w[0]), chunks(w[1]), chunks(w[2]), chunks(w[3])];
        let mut lanes = [[vdupq_n_f32(0.0); 4]; ROWS];
        for (i, x) in xs.iter().enumerate() {
            for r in 0..ROWS {
                let w = widen(&whole[r][i]);
                for j in 0..4 {
                    lanes[r][j] = vfmaq_f32(lanes[r][j], w[j], load_f32(part(x, 4 * j)));
                }
            }
        }
        for (r, y) in y.iter_mut().enumerate() {
            let mut all = [0.0; LANES];
            for (lanes, all) in lanes[r].into_iter().zip(all.as_chunks_mut().0) {
                *all = lanes_of(lanes);
            }
            scalar::float::add(format, &w[r][xs.len() * N..], x_rest, &mut all);
            *y = fold(all);
        }
    }
}

#[inline(always)]
fn chunks<const N: usize>(row: &[u8]) -> &[[u8; N]] {
    row.as_chunks().0
}
