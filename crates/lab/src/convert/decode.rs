//! How checkpoints hold values, and how rows of them become floats.
//!
//! FP8 (`F8_E4M3`) matrices share an E8M0 scale per block of 128 by 128, FP4 matrices (E2M1, two columns a byte in an
//! `I8` tensor, the even one in the low half) per row and 32 columns. A code times a power of two is exact, so decoding
//! has one right answer.

use ds4_gguf::blocks::float::{E2M1, E4M3FN, e8m0_to_f32};
use ds4_gguf::{Format, blocks};
use safetensors::Dtype;

/// Rows and columns that share a scale in an FP8 matrix.
pub(super) const FP8_BLOCK: usize = 128;
/// Columns of a row that share a scale in an FP4 matrix.
pub(super) const FP4_BLOCK: usize = 32;

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    F32,
    F16,
    BF16,
    Fp8,
    Fp4,
    I32,
    I64,
}

impl Encoding {
    /// The encoding of a tensor of this type; an I8 tensor holds FP4. `None` for types that V4 checkpoints do not have.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::BF16),
            Dtype::F8_E4M3 => Some(Self::Fp8),
            Dtype::I8 => Some(Self::Fp4),
            Dtype::I32 => Some(Self::I32),
            Dtype::I64 => Some(Self::I64),
            _ => None,
        }
    }

    /// Whether values are whole numbers rather than floats.
    pub(super) fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::I64)
    }

    /// Bytes of a row of `cols` values.
    pub(super) fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::I64 => 8 * cols,
            Self::F32 | Self::I32 => 4 * cols,
            Self::F16 | Self::BF16 => 2 * cols,
            Self::Fp8 => cols,
            Self::Fp4 => cols / 2,
        }
    }

    /// Scales of a row of `cols` values; 0 where values stand for themselves.
    pub(super) fn scales_in_row(self, cols: usize) -> usize {
        match self {
            Self::Fp8 => cols.div_ceil(FP8_BLOCK),
            Self::Fp4 => cols / FP4_BLOCK,
            _ => 0,
        }
    }

    /// The row of scales that goes with a row of values.
    pub(super) fn scale_row(self, row: usize) -> usize {
        if self == Self::Fp8 { row / FP8_BLOCK } else { row }
    }

    /// Decodes a row of floats. `bytes` and `scales` are as long as [`Encoding::row_bytes`] and
    /// [`Encoding::scales_in_row`] say.
    ///
    /// # Errors
    /// Never for a float encoding and such lengths.
    pub(super) fn decode(self, bytes: &[u8], scales: &[u8], out: &mut [f32]) -> Result<(), ds4_gguf::Error> {
        match self {
            Self::F32 => blocks::decode(Format::F32, bytes, out),
            Self::F16 => blocks::decode(Format::F16, bytes, out),
            Self::BF16 => blocks::decode(Format::BF16, bytes, out),
            Self::I32 | Self::I64 => blocks::decode(Format::I32, bytes, out), // refuses
            Self::Fp8 => {
                decode_fp8(bytes, scales, out);
                Ok(())
            }
            Self::Fp4 => {
                decode_fp4(bytes, scales, out);
                Ok(())
            }
        }
    }

    /// The integers of a row.
    pub(super) fn integers(self, bytes: &[u8]) -> Vec<i64> {
        match self {
            Self::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        }
    }
}

fn decode_fp8(bytes: &[u8], scales: &[u8], out: &mut [f32]) {
    for ((out, bytes), scale) in out.chunks_mut(FP8_BLOCK).zip(bytes.chunks(FP8_BLOCK)).zip(scales) {
        let scale = e8m0_to_f32(*scale);
        for (x, code) in out.iter_mut().zip(bytes) {
            *x = E4M3FN[usize::from(*code)] * scale;
        }
    }
}

/// The two columns of every FP4 byte.
static FP4_PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [E2M1[byte & 15], E2M1[byte >> 4]];
        byte += 1;
    }
    pairs
};

fn decode_fp4(bytes: &[u8], scales: &[u8], out: &mut [f32]) {
    let blocks = out.as_chunks_mut::<FP4_BLOCK>().0.iter_mut().zip(bytes.as_chunks::<{ FP4_BLOCK / 2 }>().0);
    for ((out, bytes), scale) in blocks.zip(scales) {
        let scale = e8m0_to_f32(*scale);
        for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = FP4_PAIRS[usize::from(*byte)].map(|x| x * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp8_rows_may_end_inside_a_block() {
        let mut out = [0.0; 130];
        let mut bytes = [0x38; 130]; // 1.0
        bytes[129] = 0xfe; // -448
        Encoding::Fp8.decode(&bytes, &[127, 128], &mut out).unwrap();
        assert_eq!((out[0], out[127], out[128], out[129]), (1.0, 1.0, 2.0, -896.0));
        assert_eq!((Encoding::Fp8.scales_in_row(130), Encoding::Fp8.scale_row(128)), (2, 1));
    }

    #[test]
    fn the_even_column_of_an_fp4_byte_is_in_the_low_half() {
        let mut out = [0.0; 64];
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (0x21, 0xf7);
        Encoding::Fp4.decode(&bytes, &[128, 126], &mut out).unwrap();
        assert_eq!((out[0], out[1], out[62], out[63]), (1.0, 2.0, 3.0, -3.0));
    }

    #[test]
    fn a_broken_scale_breaks_its_block_only() {
        let mut out = [0.0; 64];
        Encoding::Fp4.decode(&[0x11; 32], &[127, 255], &mut out).unwrap();
        assert!(out[..32].iter().all(|x| *x == 0.5) && out[32..].iter().all(|x| x.is_nan()));
    }
}
