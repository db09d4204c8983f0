//! IQ2_XXS. It counts in eighths, which the activation's scale takes over.

use ds4_gguf::blocks::iq2_xxs::unpack;

use super::{Activation, BlockSums, super_row};

/// `y[r] = w[r] · x`
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        *y = super_row(row, x, 0.125, |block, q, _| {
            let b = unpack(block);
            let mut products = 0;
            for (j, (w, q)) in b.quants.chunks_exact(32).zip(q.chunks_exact(32)).enumerate() {
                let dot: i32 = w.iter().zip(q).map(|(w, q)| i32::from(*w) * i32::from(*q)).sum();
                products += (2 * i32::from(b.scales[j]) + 1) * dot;
            }
            BlockSums { d: b.d, dmin: 0.0, products, mins: None }
        });
    }
}
