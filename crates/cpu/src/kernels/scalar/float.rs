//! F32, F16 and BF16 in 16 lanes.

use ds4_gguf::Format;
use ds4_gguf::blocks::{f16_to_f32, float::bf16_to_f32};

use crate::kernels::math::{LANES, fold};

/// `y[r] = w[r] · x`
pub(crate) fn mat_vec(format: Format, w: &[u8], x: &[f32], y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = [0.0; LANES];
        add(format, row, x, &mut lanes);
        *y = fold(lanes);
    }
}

/// Adds the products of a row with `x` to the lanes, the first one to lane 0.
#[inline(always)]
pub(crate) fn add(format: Format, row: &[u8], x: &[f32], lanes: &mut [f32; LANES]) {
    match format {
        Format::F16 => widened::<2>(row, x, lanes, |b| f16_to_f32(u16::from_le_bytes(b))),
        Format::BF16 => widened::<2>(row, x, lanes, |b| bf16_to_f32(u16::from_le_bytes(b))),
        _ => widened::<4>(row, x, lanes, f32::from_le_bytes),
    }
}

#[inline(always)]
fn widened<const N: usize>(row: &[u8], x: &[f32], lanes: &mut [f32; LANES], widen: impl Fn([u8; N]) -> f32) {
    for (i, (w, x)) in row.as_chunks::<N>().0.iter().zip(x).enumerate() {
        lanes[i % LANES] = widen(*w).mul_add(*x, lanes[i % LANES]);
    }
}
