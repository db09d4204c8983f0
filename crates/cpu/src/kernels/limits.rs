//! Loops that do nothing but read, or nothing but multiply, to measure what a machine allows.

use super::{Family, scalar};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

kernel! {
/// Reads everything, in four streams.
pub fn read(x: &[u64]) -> u64 {
    const LANES: usize = 8;
    let quarter = x.len() / 4;
    let streams = [&x[..quarter], &x[quarter..2 * quarter], &x[2 * quarter..3 * quarter], &x[3 * quarter..4 * quarter]];
    let [a, b, c, d] = streams.map(|s| s.as_chunks::<LANES>().0);
    let mut sums = [[0u64; LANES]; 4];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for l in 0..LANES {
            sums[0][l] ^= a[l];
            sums[1][l] ^= b[l];
            sums[2][l] ^= c[l];
            sums[3][l] ^= d[l];
        }
    }
    let mut sum = 0;
    for x in sums.as_flattened() {
        sum ^= x;
    }
    sum
}
}

/// Multiplies bytes in registers, `repeat` times as many as a core can have under way, and returns how many it were.
pub fn multiply(family: Family, repeat: usize) -> usize {
    assert!(family.is_supported(), "this machine has no {family}");
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe { avx512::limits::multiply(repeat) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx2 => unsafe { avx2::limits::multiply(repeat) },
        _ => scalar::limits::multiply(repeat),
    }
}
