//! The geometry of what a sequence leaves behind: window rows, compressed rows in pages, compressor states.

use std::ops::Range;

use crate::{ROLLBACK, Shape, StoredRows};

/// Tokens of a page. At its end the ratio-128 compressor is empty.
pub const PAGE_TOKENS: usize = 128;

/// Positions whose compressor state is kept, so that [`ROLLBACK`] tokens can be taken back.
const STATES: usize = ROLLBACK + 1;

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePlan {
    /// Sequences that are live at once.
    pub slots: usize,
    /// Pages of [`PAGE_TOKENS`] tokens, shared by all sequences.
    pub pages: usize,
    /// Most tokens of one sequence in one step.
    pub step: usize,
}

/// How one row is stored (docs/numerics.md 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowLayout {
    /// f32 values.
    F32 {
        /// Channels.
        width: usize,
    },
    /// e4m3 codes in blocks with a scale byte, then rotary channels as f16.
    Fp8 {
        /// Channels that do not rotate.
        nope: usize,
        /// Width of a block.
        block: usize,
        /// Channels that rotate.
        rope: usize,
    },
    /// e2m1 codes, two a byte, the even channel low, in blocks of 32; then a scale byte a block.
    Fp4 {
        /// Channels.
        width: usize,
    },
}

impl RowLayout {
    /// Bytes of a row.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 { width } => 4 * width,
            Self::Fp8 { nope, block, rope } => nope + nope / block + 2 * rope,
            Self::Fp4 { width } => width / 2 + width / 32,
        }
    }

    /// Channels of a row.
    pub fn width(self) -> usize {
        match self {
            Self::F32 { width } | Self::Fp4 { width } => width,
            Self::Fp8 { nope, rope, .. } => nope + rope,
        }
    }
}

/// Where everything lies in a cache.
#[derive(Clone, Debug)]
pub struct CacheLayout {
    /// Sizes asked for.
    pub plan: CachePlan,
    /// Key/value rows, window and compressed.
    pub row: RowLayout,
    /// Indexer rows.
    pub index_row: RowLayout,
    /// Rows of the window that a token sees, its own included.
    pub window: usize,
    /// Rows of a slot's window ring; position p lies at p modulo this.
    pub window_rows: usize,
    /// Compression ratio of each layer.
    pub ratios: Vec<usize>,
}

impl CacheLayout {
    /// The layout for a model.
    pub fn new(shape: &Shape, stored: StoredRows, plan: CachePlan) -> Self {
        let (row, index_row) = match stored {
            StoredRows::F32 => (RowLayout::F32 { width: shape.head_dim }, RowLayout::F32 { width: shape.index_dim }),
            StoredRows::Trained => (
                RowLayout::Fp8 { nope: shape.nope_dim(), block: shape.row_block(), rope: shape.rope_dim },
                RowLayout::Fp4 { width: shape.index_dim },
            ),
        };
        // A step writes its rows first and then reads back the window of its first token; after taking tokens back,
        // the window of an earlier one.
        let window_rows = shape.window + ROLLBACK + plan.step;
        Self { plan, row, index_row, window: shape.window, window_rows, ratios: shape.ratios.clone() }
    }

    /// Compressed rows of one page in a layer of this ratio.
    pub fn rows_per_page(ratio: usize) -> usize {
        PAGE_TOKENS.checked_div(ratio).unwrap_or(0)
    }

    /// f32 values of one compressor state: per series the running maximum, weight sum and weighted sum of each channel.
    ///
    /// Ratio 4 carries two series, the row under way and the one that this window's first halves begin.
    pub fn state_len(ratio: usize, width: usize) -> usize {
        match ratio {
            0 => 0,
            4 => 2 * 3 * width,
            _ => 3 * width,
        }
    }

    /// Compressor states kept per slot and layer; the state after position p lies at p modulo this.
    pub const fn states() -> usize {
        STATES
    }

    /// Bytes that one page takes over all layers.
    pub fn page_bytes(&self) -> usize {
        self.rows_bytes(PAGE_TOKENS)
    }

    /// Bytes of the rows that the first `tokens` of a page have completed, over all layers.
    fn rows_bytes(&self, tokens: usize) -> usize {
        self.ratios.iter().map(|&r| tokens.checked_div(r).unwrap_or(0) * self.compressed_row_bytes(r)).sum()
    }

    /// Positions of the window rows that a token after `len` others may see.
    pub fn window_before(&self, len: usize) -> Range<u32> {
        len.saturating_sub(self.window) as u32..len as u32
    }

    /// Bytes of a resume point after `len` tokens, over all layers: the window, a state of each compressor, and the rows
    /// of the page under way.
    pub fn point_bytes(&self, len: usize) -> usize {
        let windows = self.ratios.len() * self.window_before(len).len() * self.row.bytes();
        windows + self.state_bytes() + self.rows_bytes(len % PAGE_TOKENS)
    }

    /// Bytes of one state of each compressor.
    fn state_bytes(&self) -> usize {
        let index = |r| if r == 4 { Self::state_len(r, self.index_row.width()) } else { 0 };
        self.ratios.iter().map(|&r| 4 * (Self::state_len(r, self.row.width()) + index(r))).sum()
    }

    /// Bytes that one slot takes over all layers: windows and compressor states.
    pub fn slot_bytes(&self) -> usize {
        let windows = self.ratios.len() * self.window_rows * self.row.bytes();
        windows + STATES * self.state_bytes()
    }

    /// Bytes of the whole cache.
    pub fn bytes(&self) -> usize {
        self.plan.slots * self.slot_bytes() + self.plan.pages * self.page_bytes()
    }

    fn compressed_row_bytes(&self, ratio: usize) -> usize {
        self.row.bytes() + if ratio == 4 { self.index_row.bytes() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_real_models_have_the_documented_sizes() {
        assert_eq!(RowLayout::Fp8 { nope: 448, block: 64, rope: 64 }.bytes(), 583);
        assert_eq!(RowLayout::Fp4 { width: 128 }.bytes(), 68);
    }
}
