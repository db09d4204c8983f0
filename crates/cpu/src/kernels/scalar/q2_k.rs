//! Q2_K.

use ds4_gguf::blocks::q2_k::unpack;

use super::{Activation, BlockSums, dot, super_row};

/// `y[r] = w[r] · x`
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        *y = super_row(row, x, 1.0, |block, q, sums| {
            let b = unpack(block);
            let (mut products, mut mins) = (0, 0);
            for j in 0..16 {
                products += i32::from(b.scales[j]) * dot(&b.quants[16 * j..][..16], &q[16 * j..]);
                mins += i32::from(b.mins[j]) * i32::from(sums[j]);
            }
            BlockSums { d: b.d, dmin: b.dmin, products, mins: Some(mins) }
        });
    }
}
