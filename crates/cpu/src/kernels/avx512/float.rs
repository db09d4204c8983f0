//! F32, F16 and BF16 in 16 lanes.

use std::arch::x86_64::*;

use ds4_gguf::Format;

use super::{all_lanes_of, load, load_f32, load_half};
use crate::kernels::math::{LANES, fold};
use crate::kernels::scalar;

/// Rows at a time: enough to hide the latency of their sums.
const ROWS: usize = 4;

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) fn mat_vec(format: Format, w: &[u8], x: &[f32], y: &mut [f32]) {
    match format {
        Format::F16 => products::<32>(format, w, x, y, |w| _mm512_cvtph_ps(load_half(w))),
        Format::BF16 => products::<32>(format, w, x, y, |w| {
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half(w)), 16))
        }),
        _ => products::<64>(format, w, x, y, |w| _mm512_castsi512_ps(load(w))),
    }
}

/// Products of rows whose 16 elements take `N` bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
fn products<const N: usize>(format: Format, w: &[u8], x: &[f32], y: &mut [f32], widen: impl Fn(&[u8; N]) -> __m512) {
    let row_bytes = w.len() / y.len().max(1);
    let (xs, x_rest) = x.as_chunks::<LANES>();
    for (rows, y) in w.chunks(ROWS * row_bytes).zip(y.chunks_mut(ROWS)) {
        // The last group repeats its last row.
        let row = |r: usize| &rows[r.min(y.len() - 1) * row_bytes..][..row_bytes];
        let w = [row(0), row(1), row(2), row(3)];
        let whole = [chunks(w[0]), chunks(w[1]), chunks(w[2]), chunks(w[3])];
        let mut lanes = [_mm512_setzero_ps(); ROWS];
        for (i, x) in xs.iter().enumerate() {
            let x = load_f32(x);
            for r in 0..ROWS {
                lanes[r] = _mm512_fmadd_ps(widen(&whole[r][i]), x, lanes[r]);
            }
        }
        for (r, y) in y.iter_mut().enumerate() {
            let mut lanes = all_lanes_of(lanes[r]);
            scalar::float::add(format, &w[r][xs.len() * N..], x_rest, &mut lanes);
            *y = fold(lanes);
        }
    }
}

#[inline(always)]
fn chunks<const N: usize>(row: &[u8]) -> &[[u8; N]] {
    row.as_chunks().0
}
