//! Weight rows unpacked to bytes, for integer products of matrices with matrices.

/// Rows of a tile.
pub const ROWS: usize = 32;

/// A register's worth of bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// Up to [`ROWS`] rows, in halves of 16, four columns of each side by side; blocks in lane order (see `panels`).
/// Rows that are not there repeat the last one.
#[derive(Default)]
pub struct Tile {
    /// `[cols / 4][2]`: four columns of 16 rows
    pub w: Vec<Line>,
    /// `[cols / B][2]`
    pub d: Vec<[f32; 16]>,
    /// `[cols / 256][2]`
    pub dmin: Vec<[f32; 16]>,
    /// `[cols / 32][2]`: multiplier of 32 columns, or those of 16 columns each as words
    pub scales: Vec<[i32; 16]>,
    /// `[cols / 32][2]`: multipliers of the sums of 16 columns each, as words
    pub mins: Vec<[i32; 16]>,
}

impl Tile {
    /// A tile for rows of up to `cols` columns.
    pub fn new(cols: usize) -> Self {
        let n = cols.div_ceil(32);
        Self {
            w: vec![Line([1; 64]); 16 * n],
            d: vec![[f32::NAN; 16]; 2 * n],
            dmin: vec![[f32::NAN; 16]; 2 * n],
            scales: vec![[1; 16]; 2 * n],
            mins: vec![[1; 16]; 2 * n],
        }
    }

    /// Bytes that [`Tile::new`] takes.
    pub fn bytes(cols: usize) -> usize {
        cols.div_ceil(32) * (16 * 64 + 4 * 2 * 64)
    }
}
