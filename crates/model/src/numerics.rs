//! Which arithmetic a pass uses.  `docs/numerics.md` is the definition.

/// Names the definition in `docs/numerics.md`. Stored rows carry it and are reused only under the same one.
pub const NUMERICS_ID: u32 = 1;

/// How many tokens a sequence can take back exactly.
pub const ROLLBACK: usize = 16;

/// How activations meet block-quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Rounded to 8 bits per token and block; integer dot products.
    Int8,
    /// Kept in f32; weights are decoded to f32.
    F32,
}

/// How key, value and indexer rows are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredRows {
    /// FP8 and f16 rows, FP4 indexer rows: what the model was trained with.
    Trained,
    /// f32, for comparison with implementations that do not round.
    F32,
}

/// The numeric mode of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numerics {
    /// How activations meet block-quantised weights.
    pub activations: Activations,
    /// How rows are stored.
    pub rows: StoredRows,
}

impl Numerics {
    /// 8-bit activations, rows rounded as trained.
    pub const DEFAULT: Self = Self { activations: Activations::Int8, rows: StoredRows::Trained };
    /// `--quality`: f32 activations, rows rounded as trained.
    pub const QUALITY: Self = Self { activations: Activations::F32, rows: StoredRows::Trained };
    /// f32 everywhere, for tests against other implementations.
    pub const EXACT: Self = Self { activations: Activations::F32, rows: StoredRows::F32 };
}
