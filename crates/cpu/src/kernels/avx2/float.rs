//! F32, F16 and BF16 in 16 lanes, which are two registers.

use std::arch::x86_64::*;

use ds4_gguf::Format;

use super::{load, load_f32, load_half, part};
use crate::kernels::math::{LANES, fold};
use crate::kernels::scalar;

/// Rows at a time: enough to hide the latency of their sums.
const ROWS: usize = 4;

/// `y[r] = w[r] · x`
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn mat_vec(format: Format, w: &[u8], x: &[f32], y: &mut [f32]) {
    match format {
        Format::F16 => products::<32, 16>(format, w, x, y, |w| _mm256_cvtph_ps(load_half(w))),
        Format::BF16 => products::<32, 16>(format, w, x, y, |w| {
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(w)), 16))
        }),
        _ => products::<64, 32>(format, w, x, y, |w| _mm256_castsi256_ps(load(w))),
    }
}

/// Products of rows whose 16 elements take `N` bytes, and 8 take `H`.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn products<const N: usize, const H: usize>(
    format: Format,
    w: &[u8],
    x: &[f32],
    y: &mut [f32],
    widen: impl Fn(&[u8; H]) -> __m256,
) {
    let row_bytes = w.len() / y.len().max(1);
    let (xs, x_rest) = x.as_chunks::<LANES>();
    for (rows, y) in w.chunks(ROWS * row_bytes).zip(y.chunks_mut(ROWS)) {
        // The last group repeats its last row.
        let row = |r: usize| &rows[r.min(y.len() - 1) * row_bytes..][..row_bytes];
        let w = [row(0), row(1), row(2), row(3)];
        let whole: [&[[u8; N]]; ROWS] = [chunks(w[0]), chunks(w[1]), chunks(w[2]), chunks(w[3])];
        let mut lanes = [[_mm256_setzero_ps(); 2]; ROWS];
        for (i, x) in xs.iter().enumerate() {
            let (low, high) = (load_f32(part(x, 0)), load_f32(part(x, 8)));
            for r in 0..ROWS {
                lanes[r][0] = _mm256_fmadd_ps(widen(part(&whole[r][i], 0)), low, lanes[r][0]);
                lanes[r][1] = _mm256_fmadd_ps(widen(part(&whole[r][i], H)), high, lanes[r][1]);
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

#[inline]
#[target_feature(enable = "avx2")]
fn all_lanes_of(x: [__m256; 2]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: room for sixteen.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), x[0]);
        _mm256_storeu_ps(lanes.as_mut_ptr().add(8), x[1]);
    }
    lanes
}
