//! F32, F16 and BF16 in 16 lanes.

use std::arch::x86_64::*;

use ds4_gguf::Format;

use super::{all_lanes_of, load, load_f32, load_half};
use crate::kernels::math::{LANES, fold};
use crate::kernels::products::TOKENS;
use crate::kernels::scalar;

/// Rows at a time, so that many tokens' sums hide each other's latency. One token takes row by row: memory is read
/// fastest as one stream.
const ROWS: usize = 4;

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) fn mat_vec(format: Format, w: &[u8], x: &[f32], y: &mut [f32]) {
    by_format::<1, 1>(format, w, [x], [y]);
}

/// `y[t][r] = w[r] · x[t]`
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(crate) fn mat_mat(format: Format, w: &[u8], x: [&[f32]; TOKENS], y: [&mut [f32]; TOKENS]) {
    by_format::<ROWS, TOKENS>(format, w, x, y);
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
fn by_format<const R: usize, const T: usize>(format: Format, w: &[u8], x: [&[f32]; T], y: [&mut [f32]; T]) {
    match format {
        Format::F16 => products::<32, R, T>(format, w, x, y, |w| _mm512_cvtph_ps(load_half(w))),
        Format::BF16 => products::<32, R, T>(format, w, x, y, |w| {
            _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half(w)), 16))
        }),
        _ => products::<64, R, T>(format, w, x, y, |w| _mm512_castsi512_ps(load(w))),
    }
}

/// Products of `R` rows at a time, whose 16 elements take `N` bytes.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,f16c,fma")]
fn products<const N: usize, const R: usize, const T: usize>(
    format: Format,
    w: &[u8],
    x: [&[f32]; T],
    y: [&mut [f32]; T],
    widen: impl Fn(&[u8; N]) -> __m512,
) {
    let (count, cols) = (y[0].len(), x[0].len());
    let row_bytes = w.len() / count.max(1);
    let whole = cols / LANES;
    let xs = x.map(|x| &x.as_chunks::<LANES>().0[..whole]);
    for (g, rows) in w.chunks(R * row_bytes).enumerate() {
        // The last group repeats its last row.
        let here = rows.len() / row_bytes;
        let row = |r: usize| &rows[r.min(here - 1) * row_bytes..][..row_bytes];
        let w: [&[u8]; R] = std::array::from_fn(row);
        let ws = w.map(|w| &w.as_chunks::<N>().0[..whole]);
        let mut lanes = [[_mm512_setzero_ps(); T]; R];
        for i in 0..whole {
            let mut x = [_mm512_setzero_ps(); T];
            for t in 0..T {
                x[t] = load_f32(&xs[t][i]);
            }
            for r in 0..R {
                let w = widen(&ws[r][i]);
                for t in 0..T {
                    lanes[r][t] = _mm512_fmadd_ps(w, x[t], lanes[r][t]);
                }
            }
        }
        for r in 0..here {
            for t in 0..T {
                let mut lanes = all_lanes_of(lanes[r][t]);
                scalar::float::add(format, &w[r][whole * N..], &x[t][whole * LANES..], &mut lanes);
                y[t][g * R + r] = fold(lanes);
            }
        }
    }
}
