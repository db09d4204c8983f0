//! One entry of the tensor directory.

use crate::Format;

/// Where a tensor lies in its file and what shape it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The name, such as `blk.3.attn_kv.weight`.
    pub name: String,
    /// 1 to 4 sizes, none zero; `dims[0]` is the row length (the input width), the last one is the outermost.
    pub dims: Vec<u64>,
    /// How the elements are stored.
    pub format: Format,
    /// The payload's first byte, from the start of the file.
    pub offset: u64,
    /// Bytes of the payload, without padding.
    pub len: u64,
}

impl Tensor {
    /// Elements in a row: `dims[0]`.
    pub fn cols(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// The number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// Bytes of a tensor's payload, or what is wrong with its shape.
pub(crate) fn payload_len(dims: &[u64], format: Format) -> Result<u64, String> {
    if !(1..=4).contains(&dims.len()) {
        return Err(format!("expected 1 to 4 dimensions, found {}", dims.len()));
    }
    if dims.contains(&0) {
        return Err(format!("expected dimensions above 0, found {dims:?}"));
    }
    if format.block_len() == 0 {
        return Err(format!("{format} is not a tensor format that this program knows"));
    }
    if !dims[0].is_multiple_of(format.block_len() as u64) {
        let block = format.block_len();
        return Err(format!("row length {} is not a multiple of {block}, the block of {format}", dims[0]));
    }
    // The element count must fit as well as the byte count: formats below 8 bits have fewer bytes than elements.
    let too_large = || format!("dimensions {dims:?} are too large");
    dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).ok_or_else(too_large)?;
    let row = format.row_bytes(dims[0]).ok_or_else(too_large)?;
    dims[1..].iter().try_fold(row, |n, &d| n.checked_mul(d)).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_rows_of_whole_blocks() {
        assert_eq!(payload_len(&[4096, 2048, 256], Format::IQ2_XXS), Ok(16 * 66 * 2048 * 256));
        assert_eq!(payload_len(&[3], Format::F32), Ok(12));
    }

    #[test]
    fn impossible_shapes_are_named() {
        let problem = |dims: &[u64], format| payload_len(dims, format).unwrap_err();
        assert_eq!(problem(&[], Format::F32), "expected 1 to 4 dimensions, found 0");
        assert_eq!(problem(&[1; 5], Format::F32), "expected 1 to 4 dimensions, found 5");
        assert_eq!(problem(&[4, 0], Format::F32), "expected dimensions above 0, found [4, 0]");
        assert_eq!(problem(&[100], Format::Q4_K), "row length 100 is not a multiple of 256, the block of Q4_K");
        assert_eq!(problem(&[4], Format::Other(99)), "type 99 is not a tensor format that this program knows");
        assert!(problem(&[1 << 32, 1 << 32], Format::F32).ends_with("too large"));
        assert!(problem(&[1 << 40, 1 << 24], Format::IQ2_XXS).ends_with("too large"), "2^64 elements in fewer bytes");
        assert!(problem(&[u64::MAX], Format::F32).ends_with("too large"));
    }

    #[test]
    fn counts() {
        let tensor = Tensor { name: "t".into(), dims: vec![256, 3, 2], format: Format::Q2_K, offset: 0, len: 504 };
        assert_eq!((tensor.cols(), tensor.rows(), tensor.elements()), (256, 6, 1536));
    }
}
