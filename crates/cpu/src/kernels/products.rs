//! Products of stored weight rows with activations (docs/numerics.md 1 and 3), by format and family.

use ds4_gguf::Format;

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::tile::{ROWS, Tile};
use super::{Family, math, scalar};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Columns that share an activation scale and a row's `d` in the formats of 256-column blocks.
pub const SUPER: usize = 256;

/// One token's activations in 8 bits.
#[derive(Clone, Copy)]
pub struct Activation<'a> {
    /// `[cols]`
    pub q: &'a [i8],
    /// `[cols / B]`, B the weights' block: 32 or 256 columns
    pub d: &'a [f32],
    /// `[cols / 16]` sums of `q`
    pub sums: &'a [i16],
}

/// `y[r] = w[r] · x` for the stored rows `w`: `y.len()` of them, one after another, of a format with integer products.
pub fn mat_vec(family: Family, format: Format, w: &[u8], x: Activation<'_>, y: &mut [f32]) {
    assert!(family.is_supported(), "this machine has no {family}");
    check(format, w, x, y.len());
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe {
            match format {
                Format::Q8_0 => avx512::q8_0::mat_vec(w, x, y),
                Format::Q4_K => avx512::q4_k::mat_vec(w, x, y),
                Format::Q2_K => avx512::q2_k::mat_vec(w, x, y),
                _ => avx512::iq2_xxs::mat_vec(w, x, y),
            }
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx2 => unsafe {
            match format {
                Format::Q8_0 => avx2::q8_0::mat_vec(w, x, y),
                Format::Q4_K => avx2::q4_k::mat_vec(w, x, y),
                Format::Q2_K => avx2::q2_k::mat_vec(w, x, y),
                _ => avx2::iq2_xxs::mat_vec(w, x, y),
            }
        },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        #[allow(unsafe_code)]
        Family::Neon => unsafe {
            match format {
                Format::Q8_0 => neon::q8_0::mat_vec(w, x, y),
                Format::Q4_K => neon::q4_k::mat_vec(w, x, y),
                Format::Q2_K => neon::q2_k::mat_vec(w, x, y),
                _ => neon::iq2_xxs::mat_vec(w, x, y),
            }
        },
        _ => match format {
            Format::Q8_0 => scalar::q8_0::mat_vec(w, x, y),
            Format::Q4_K => scalar::q4_k::mat_vec(w, x, y),
            Format::Q2_K => scalar::q2_k::mat_vec(w, x, y),
            _ => scalar::iq2_xxs::mat_vec(w, x, y),
        },
    }
}

/// Whether the family has [`mat_mat`].
pub fn has_mat_mat(family: Family) -> bool {
    matches!(family, Family::Avx2 | Family::Avx512)
}

/// `put(t, y)` gets `y[r] = w[r] · x[t]` for each of `tokens` tokens and up to [`ROWS`] stored rows of `cols` columns, of
/// a format with integer products. `packed` holds the tokens' panels, `tile` is memory for rows as long.
#[allow(clippy::too_many_arguments, reason = "two matrices, memory, and a way out")]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no family elsewhere has it"))]
pub fn mat_mat(
    family: Family,
    format: Format,
    w: &[u8],
    cols: usize,
    packed: &[i32],
    tokens: usize,
    tile: &mut Tile,
    put: impl FnMut(usize, &[f32; ROWS]),
) {
    assert!(family.is_supported() && has_mat_mat(family), "{family} multiplies no matrices");
    assert!(cols.is_multiple_of(format.block_len()), "{cols} columns");
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe { avx512::gemm::mat_mat(format, w, cols, packed, tokens, tile, put) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx2 => unsafe { avx2::gemm::mat_mat(format, w, cols, packed, tokens, tile, put) },
        _ => unreachable!("only families that have it come here"),
    }
}

/// Most tokens of [`mat_few`]: more would need more registers than there are.
pub const FEW: usize = 4;

/// Whether the family has [`mat_few`] for the format.
pub fn has_mat_few(family: Family, format: Format) -> bool {
    family == Family::Avx512 && format == Format::IQ2_XXS
}

/// `put(t, r, y)` gets `y[i] = w[r + i] · x[t]` for each of 2 to [`FEW`] tokens, for all stored rows `w` of `cols`
/// columns: every weight is unpacked once, and meets the tokens before it leaves its register.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, unused_mut, reason = "no family elsewhere has it"))]
pub fn mat_few(
    family: Family,
    format: Format,
    w: &[u8],
    cols: usize,
    x: &[Activation<'_>],
    mut put: impl FnMut(usize, usize, &[f32]),
) {
    assert!(family.is_supported() && has_mat_few(family, format), "{family} has no such products");
    let row_bytes = cols / format.block_len() * format.block_bytes();
    x.iter().for_each(|x| {
        assert_eq!(x.q.len(), cols);
        check(format, w, *x, w.len() / row_bytes);
    });
    // SAFETY: the machine has the family's instructions.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe {
        match *x {
            [a, b] => avx512::iq2_xxs::mat_few(w, row_bytes, [a, b], &mut put),
            [a, b, c] => avx512::iq2_xxs::mat_few(w, row_bytes, [a, b, c], &mut put),
            [a, b, c, d] => avx512::iq2_xxs::mat_few(w, row_bytes, [a, b, c, d], &mut put),
            _ => panic!("{} tokens are not few", x.len()),
        }
    }
}

/// `y[r] = w[r] · x` for stored F32, F16 or BF16 rows.
pub fn float_mat_vec(family: Family, format: Format, w: &[u8], x: &[f32], y: &mut [f32]) {
    assert!(family.is_supported(), "this machine has no {family}");
    assert_eq!(w.len(), y.len() * x.len() * format.block_bytes(), "rows of {}", format.name());
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe { avx512::float::mat_vec(format, w, x, y) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx2 => unsafe { avx2::float::mat_vec(format, w, x, y) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        #[allow(unsafe_code)]
        Family::Neon => unsafe { neon::float::mat_vec(format, w, x, y) },
        _ => scalar::float::mat_vec(format, w, x, y),
    }
}

/// Tokens that [`float_mat_mat`] takes at a time.
pub const TOKENS: usize = 4;

/// `y[t][r] = w[r] · x[t]` for stored F32, F16 or BF16 rows.
pub fn float_mat_mat(family: Family, format: Format, w: &[u8], x: [&[f32]; TOKENS], y: [&mut [f32]; TOKENS]) {
    assert!(family.is_supported(), "this machine has no {family}");
    for (x, y) in x.iter().zip(&y) {
        assert_eq!(w.len(), y.len() * x.len() * format.block_bytes(), "rows of {}", format.name());
    }
    match family {
        // SAFETY: the machine has the family's instructions.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Family::Avx512 => unsafe { avx512::float::mat_mat(format, w, x, y) },
        _ => x.into_iter().zip(y).for_each(|(x, y)| float_mat_vec(family, format, w, x, y)),
    }
}

/// Kernels walk rows and activations side by side; lengths that do not fit would go unnoticed.
fn check(format: Format, w: &[u8], x: Activation<'_>, rows: usize) {
    let (block, cols) = (format.block_len(), x.q.len());
    assert!(matches!(format, Format::Q8_0 | Format::Q4_K | Format::Q2_K | Format::IQ2_XXS), "{}", format.name());
    assert!(cols.is_multiple_of(block) && x.d.len() == cols / block && x.sums.len() == cols / 16, "{cols} columns");
    assert_eq!(w.len(), rows * (cols / block) * format.block_bytes(), "{rows} rows of {cols} in {}", format.name());
}

kernel! {
/// Dot product of f32 rows.
pub fn f32_row(row: &[f32], x: &[f32]) -> f32 {
    math::dot(row, x)
}
}

/// Four lanes of whole blocks.
#[inline(always)]
pub(super) fn fold4(l: [f32; 4]) -> f32 {
    (l[0] + l[2]) + (l[1] + l[3])
}
