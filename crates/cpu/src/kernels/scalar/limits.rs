//! Multiplies bytes as fast as plain code can.

use std::hint::black_box;

/// Sums under way at once.
const SUMS: usize = 64;

/// See [`crate::kernels::limits::multiply`].
pub(crate) fn multiply(repeat: usize) -> usize {
    let (w, q) = (black_box([3i8; SUMS]), black_box([5i8; SUMS]));
    let mut sums = [0i32; SUMS];
    for _ in 0..repeat {
        for i in 0..SUMS {
            sums[i] = sums[i].wrapping_add(i32::from(w[i]) * i32::from(q[i]));
        }
        sums = black_box(sums);
    }
    SUMS * repeat
}
