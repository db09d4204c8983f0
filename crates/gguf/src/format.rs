//! Tensor element formats: ggml's ids, names and block sizes.

use std::borrow::Cow;
use std::fmt;

/// How a tensor's elements are stored. The named ones are those this project uses.
#[allow(non_camel_case_types)] // the names are ggml's
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE 16-bit floats.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 32 signed bytes under one scale, see [`crate::blocks::q8_0`].
    Q8_0,
    /// 256 4-bit values, scale and minimum per 32, see [`crate::blocks::q4_k`].
    Q4_K,
    /// 256 2-bit values, scale and minimum per 16, see [`crate::blocks::q2_k`].
    Q2_K,
    /// 256 values from a grid of 256 groups of eight, scale per 32, see [`crate::blocks::iq2_xxs`].
    IQ2_XXS,
    /// 32-bit integers (ids; not weights).
    I32,
    /// Any other ggml id. [`Format::from_id`] never puts a named format here.
    Other(u32),
}

/// ggml's formats: id, name, elements in a block, bytes in a block. Ids that are not here were withdrawn by ggml or
/// came after this table.
const GGML: [(u32, &str, usize, usize); 34] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

impl Format {
    /// ggml's number of the format, as stored in files.
    pub fn id(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q8_0 => 8,
            Format::Q2_K => 10,
            Format::Q4_K => 12,
            Format::IQ2_XXS => 16,
            Format::I32 => 26,
            Format::BF16 => 30,
            Format::Other(id) => id,
        }
    }

    /// The format with ggml's number `id`; every number gives one.
    pub fn from_id(id: u32) -> Format {
        match id {
            0 => Format::F32,
            1 => Format::F16,
            8 => Format::Q8_0,
            10 => Format::Q2_K,
            12 => Format::Q4_K,
            16 => Format::IQ2_XXS,
            26 => Format::I32,
            30 => Format::BF16,
            other => Format::Other(other),
        }
    }

    /// ggml's name, such as `Q4_K`; `type 99` for an id that has none.
    pub fn name(self) -> Cow<'static, str> {
        match self.row() {
            Some(&(_, name, _, _)) => Cow::Borrowed(name),
            None => Cow::Owned(format!("type {}", self.id())),
        }
    }

    /// The format with ggml's name `name`. Case, `-` and `_` do not matter: `iq2-xxs` is `IQ2_XXS`.
    pub fn parse(name: &str) -> Option<Format> {
        let plain = |s: &str| s.replace(['-', '_'], "").to_ascii_uppercase();
        let name = plain(name);
        GGML.iter().find(|row| plain(row.1) == name).map(|row| Format::from_id(row.0))
    }

    /// Elements in a block; 1 for plain numbers, 0 for an id without a name.
    pub fn block_len(self) -> usize {
        self.row().map_or(0, |row| row.2)
    }

    /// Bytes in a block; 0 for an id without a name.
    pub fn block_bytes(self) -> usize {
        self.row().map_or(0, |row| row.3)
    }

    /// Whether [`crate::blocks::decode`] knows the format.
    pub fn is_decodable(self) -> bool {
        !matches!(self, Format::I32 | Format::Other(_))
    }

    /// Bytes of a row of `cols` elements. `None` when that is not a whole number of blocks, overflows, or the format is
    /// an id without a name.
    pub fn row_bytes(self, cols: u64) -> Option<u64> {
        let &(_, _, len, bytes) = self.row()?;
        let whole = cols.is_multiple_of(len as u64);
        if whole { (cols / len as u64).checked_mul(bytes as u64) } else { None }
    }

    fn row(self) -> Option<&'static (u32, &'static str, usize, usize)> {
        let id = self.id();
        GGML.iter().find(|row| row.0 == id)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back_to_the_format() {
        for &(id, name, len, bytes) in &GGML {
            let format = Format::from_id(id);
            assert_eq!(format.id(), id);
            assert_eq!(format.name(), name);
            assert_eq!(Format::parse(name), Some(format));
            assert_eq!((format.block_len(), format.block_bytes()), (len, bytes));
            assert_eq!(format!("{format:?}") == name, !matches!(format, Format::Other(_)), "named as in ggml");
        }
    }

    #[test]
    fn names_are_read_loosely() {
        for (name, format) in [("q8_0", Format::Q8_0), ("Q80", Format::Q8_0), ("iq2-xxs", Format::IQ2_XXS)] {
            assert_eq!(Format::parse(name), Some(format));
        }
        assert_eq!(Format::parse("q6k"), Some(Format::Other(14)));
        assert_eq!(Format::parse("q9"), None);
        assert_eq!(Format::parse(""), None);
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(Format::Q4_K.row_bytes(512), Some(288));
        assert_eq!(Format::Q4_K.row_bytes(500), None);
        assert_eq!(Format::F32.row_bytes(u64::MAX), None);
        assert_eq!(Format::Other(14).row_bytes(256), Some(210));
        assert_eq!(Format::Other(99).row_bytes(256), None);
        assert_eq!(Format::Other(99).name(), "type 99");
        assert_eq!((Format::Other(99).block_len(), Format::Other(99).block_bytes()), (0, 0));
    }
}
