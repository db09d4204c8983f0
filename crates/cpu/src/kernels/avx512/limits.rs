//! Multiplies bytes as fast as the instruction can.

use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums under way at once.
const SUMS: usize = 16;

/// See [`crate::kernels::limits::multiply`].
#[target_feature(enable = "avx512bw,avx512vl,avx512vnni")]
pub(crate) fn multiply(repeat: usize) -> usize {
    let (w, q) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
    let mut sums = black_box([_mm512_setzero_si512(); SUMS]);
    for _ in 0..repeat {
        for s in &mut sums {
            *s = _mm512_dpbusd_epi32(*s, w, q);
        }
    }
    black_box(sums);
    64 * SUMS * repeat
}
