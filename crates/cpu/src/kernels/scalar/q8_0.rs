//! Q8_0.

use ds4_gguf::blocks::q8_0::{BLOCK_BYTES, BLOCK_LEN, quants, scale};

use super::{Activation, fold4};

/// `y[r] = w[r] · x`
pub(crate) fn mat_vec(w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    let row_bytes = w.len() / y.len().max(1);
    for (row, y) in w.chunks_exact(row_bytes).zip(y) {
        let mut lanes = [0.0; 4];
        add_blocks(row, x.q, x.d, &mut lanes);
        *y = fold4(lanes);
    }
}

/// Adds blocks to the lanes, the first one to lane 0.
#[inline(always)]
pub(crate) fn add_blocks(row: &[u8], q: &[i8], d: &[f32], lanes: &mut [f32; 4]) {
    let blocks = row.as_chunks::<BLOCK_BYTES>().0;
    for (u, ((block, q), d)) in blocks.iter().zip(q.as_chunks::<BLOCK_LEN>().0).zip(d).enumerate() {
        let mut s = 0;
        for (w, q) in quants(block).iter().zip(q) {
            s += i32::from(*w) * i32::from(*q);
        }
        lanes[u % 4] = (s as f32).mul_add(scale(block) * d, lanes[u % 4]);
    }
}
