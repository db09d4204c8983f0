//! Loops that do nothing but read, or nothing but multiply, to measure what a machine allows.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{Family, scalar};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Reads everything, front to back: one stream is what the hardware fetches ahead best.
pub fn read(family: Family, x: &[u64]) -> u64 {
    assert!(family.is_supported(), "this machine has no {family}");
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe { avx512::limits::read(x) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx2 => unsafe { avx2::limits::read(x) },
        _ => xor(x),
    }
}

/// All words combined, in 32 independent sums.
#[inline(always)]
pub(crate) fn xor(x: &[u64]) -> u64 {
    const LANES: usize = 32;
    let mut sums = [0u64; LANES];
    for chunk in x.as_chunks::<LANES>().0 {
        for l in 0..LANES {
            sums[l] ^= chunk[l];
        }
    }
    let mut sum = 0;
    for x in sums {
        sum ^= x;
    }
    sum
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
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        #[allow(unsafe_code)]
        Family::Neon => unsafe { neon::limits::multiply(repeat) },
        _ => scalar::limits::multiply(repeat),
    }
}
