//! Which instructions the kernels use. Every family gives the same bits.

use std::fmt;
use std::sync::OnceLock;

/// A set of instructions that kernels are written or compiled for; those of an architecture from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// What every machine of the architecture has: the scalar kernels as they stand.
    Baseline,
    /// x86-64 with AVX2, FMA, F16C and BMI2.
    Avx2,
    /// x86-64 with AVX-512 (VNNI, VBMI) and GFNI: Ice Lake, Zen 4 and later.
    Avx512,
    /// ARM with the dot product instructions: Apple M1, Neoverse N1, Cortex-A76 and later.
    Neon,
}

/// The variable that asks for a family other than the machine's best.
const VARIABLE: &str = "DS4_CPU";

/// [`VARIABLE`] names what is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}: expected {expected}, found {found:?}; unset it to use the best")]
pub struct FamilyError {
    found: String,
    expected: String,
}

impl Family {
    /// The families of this architecture, the least first.
    pub const ALL: &[Family] = if cfg!(target_arch = "x86_64") {
        &[Family::Baseline, Family::Avx2, Family::Avx512]
    } else if cfg!(target_arch = "aarch64") {
        &[Family::Baseline, Family::Neon]
    } else {
        &[Family::Baseline]
    };

    /// The name that `DS4_CPU` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Family::Baseline => "baseline",
            Family::Avx2 => "avx2",
            Family::Avx512 => "avx512",
            Family::Neon => "neon",
        }
    }

    /// The best family of this machine.
    pub fn best() -> Self {
        static BEST: OnceLock<Family> = OnceLock::new();
        *BEST.get_or_init(detect)
    }

    /// Whether this machine has it.
    pub fn is_supported(self) -> bool {
        Self::ALL.contains(&self) && self <= Self::best()
    }

    /// The families of this machine, the least first.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|f| f.is_supported())
    }

    /// The family that `DS4_CPU` asks for, or the best.
    ///
    /// # Errors
    /// The variable names no family, or one that this machine does not have.
    pub fn requested() -> Result<Self, FamilyError> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Self::best()),
            Some(text) => Self::parse(&text.to_string_lossy()),
        }
    }

    fn parse(text: &str) -> Result<Self, FamilyError> {
        Self::supported().find(|f| f.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::supported().map(Self::name).collect();
            FamilyError { found: text.into(), expected: names.join(" or ") }
        })
    }

    /// The family in use, fixed when it is first asked for. A wrong request counts as none; [`Family::requested`] is
    /// where it is refused.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Family> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::requested().unwrap_or_else(|_| Self::best()))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Family {
    macro_rules! all { ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* } }
    if !(all!("avx2" "fma" "f16c" "bmi2")) {
        return Family::Baseline;
    }
    let wide = all!("avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx512vbmi" "gfni");
    if wide { Family::Avx512 } else { Family::Avx2 }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Family {
    if std::arch::is_aarch64_feature_detected!("dotprod") { Family::Neon } else { Family::Baseline }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Family {
    Family::Baseline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused_with_the_ones_there_are() {
        for family in Family::supported() {
            assert_eq!(Family::parse(family.name()), Ok(family));
        }
        let error = Family::parse("sse9").unwrap_err().to_string();
        assert!(error.starts_with("DS4_CPU: expected baseline"), "{error}");
        assert!(error.ends_with("found \"sse9\"; unset it to use the best"), "{error}");
    }

    #[test]
    fn no_machine_has_the_families_of_another_architecture() {
        assert!(!(Family::Neon.is_supported() && Family::Avx2.is_supported()));
    }

    #[test]
    fn every_machine_has_the_baseline() {
        assert!(Family::Baseline.is_supported());
        assert!(Family::current().is_supported());
        assert_eq!(Family::requested(), Ok(Family::current()), "DS4_CPU asks for what is there");
    }
}
