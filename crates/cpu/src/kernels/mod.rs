//! The scalar kernels: the truth that every faster kernel is tested against, written to `docs/numerics.md`.
//!
//! One file a subject. A kernel is a plain function over slices; it never allocates and knows no threads.

/// Declares a kernel and compiles its body twice on x86-64: as it stands, and for machines with FMA and AVX2, where
/// `mul_add` is one instruction and loops over lanes become vectors. Both give the same bits: nothing in the language
/// lets the compiler reorder or contract floating-point arithmetic.
macro_rules! kernel {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi2")]
                fn wide($($arg: $type),*) $(-> $result)? {
                    body($($arg),*)
                }
                if crate::kernels::wide_supported() {
                    // SAFETY: this machine has the features that `wide` is compiled for.
                    #[allow(unsafe_code)]
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

pub mod activations;
pub mod attention;
pub mod compressor;
pub mod dot;
pub mod hyper;
pub mod indexer;
pub mod math;
pub mod norm;
pub mod router;
pub mod rows;

/// Whether kernels run their AVX2 compilation. `DS4_CPU_BASELINE=1` says no, to compare.
#[cfg(target_arch = "x86_64")]
pub(crate) fn wide_supported() -> bool {
    use std::sync::OnceLock;
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        std::env::var_os("DS4_CPU_BASELINE").is_none()
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2")
    })
}
