//! Reads memory and multiplies bytes as fast as the instructions can.

use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums under way at once.
const SUMS: usize = 8;

/// See [`crate::kernels::limits::read`].
#[target_feature(enable = "avx2")]
pub(crate) fn read(x: &[u64]) -> u64 {
    crate::kernels::limits::xor(x)
}

/// See [`crate::kernels::limits::multiply`].
#[target_feature(enable = "avx2")]
pub(crate) fn multiply(repeat: usize) -> usize {
    let (one, w) = (_mm256_set1_epi16(1), black_box(_mm256_set1_epi8(3)));
    let q = [_mm256_set1_epi8(5); SUMS];
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..repeat {
        // Read anew every time, so that no product is taken out of the loop.
        for (s, q) in sums.iter_mut().zip(black_box(&q)) {
            *s = _mm256_add_epi32(*s, _mm256_madd_epi16(_mm256_maddubs_epi16(w, *q), one));
        }
    }
    black_box(sums);
    32 * SUMS * repeat
}
