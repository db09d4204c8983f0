//! The arithmetic, written to `docs/numerics.md`.
//!
//! Most kernels are one scalar body that the compiler turns into vectors for each [`Family`] (`kernel!`). Products of
//! weights and scores of the indexer, where the time goes, are written out for each: `scalar` is the truth, `avx2`, `avx512` and `neon` mirror it
//! file by file and name by name, `products` chooses. A kernel is a plain function over slices; it never allocates and
//! knows no threads.

/// Declares a kernel and compiles its body once for each family. All give the same bits: nothing in the language lets
/// the compiler reorder or contract floating-point arithmetic. Bodies use plain loops: a closure that is handed to the
/// standard library may be compiled apart, for the baseline, where `mul_add` is a library call.
macro_rules! kernel {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                use crate::kernels::Family;
                #[target_feature(enable = "avx2,fma,f16c,bmi2")]
                fn avx2($($arg: $type),*) $(-> $result)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx2,fma,f16c,bmi2")]
                fn avx512($($arg: $type),*) $(-> $result)? {
                    body($($arg),*)
                }
                match Family::current() {
                    // SAFETY: the current family is one that this machine has.
                    #[allow(unsafe_code)]
                    Family::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    Family::Avx2 => return unsafe { avx2($($arg),*) },
                    _ => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                #[target_feature(enable = "neon,dotprod")]
                fn neon($($arg: $type),*) $(-> $result)? {
                    body($($arg),*)
                }
                if crate::kernels::Family::current() == crate::kernels::Family::Neon {
                    // SAFETY: the current family is one that this machine has.
                    #[allow(unsafe_code)]
                    return unsafe { neon($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

pub mod activations;
pub mod attention;
pub mod compressor;
mod family;
pub mod hyper;
pub mod indexer;
pub mod limits;
pub mod math;
pub mod norm;
pub mod panels;
pub mod products;
pub mod router;
pub mod rows;
pub mod sampling;
pub mod tile;
pub mod unpacked;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

pub use family::{Family, FamilyError};
