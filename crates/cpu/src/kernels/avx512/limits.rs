//! Multiplies bytes as fast as the instruction can.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::load;

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

/// See [`crate::kernels::limits::read`]. Written out: the compiler would make gathers of a plain loop.
#[target_feature(enable = "avx512bw,avx512vl")]
pub(crate) fn read(x: &[u64]) -> u64 {
    let mut sums = [_mm512_setzero_si512(); 4];
    for lines in x.as_chunks::<32>().0 {
        for (sum, line) in sums.iter_mut().zip(lines.as_chunks::<8>().0) {
            *sum = _mm512_xor_si512(*sum, load(line));
        }
    }
    let [a, b, c, d] = sums;
    _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d))) as u64
}
