//! Matrix products over a step's tokens, split over threads by output rows.

use ds4_gguf::{Format, blocks};
use ds4_model::{Activations, Matrix, Numerics, Shape};

use crate::kernels::activations::{quantise, sums_of_16};
use crate::kernels::dot::{SUPER, SuperRow, f32_row, float_row, q8_0_row};
use crate::pool::{Pool, SharedSlice, rows_per_task};

/// Activations of up to T tokens, as f32 and, as soon as a weight format needs them, in 8 bits.
#[derive(Default)]
pub(crate) struct Quantised {
    by_32: Blocks,
    by_256: Blocks,
}

/// Activations in blocks of one size.
#[derive(Default)]
struct Blocks {
    /// `[T][cols]`
    q: Vec<i8>,
    /// `[T][cols / block]`
    d: Vec<f32>,
    /// `[T][cols / 16]`, only for blocks of 256
    sums: Vec<i16>,
    fresh: bool,
}

impl Quantised {
    /// Memory for steps of `tokens` tokens.
    pub(crate) fn new(shape: &Shape, numerics: Numerics, tokens: usize) -> Self {
        let (by_32, by_256) = Self::columns(shape, numerics);
        let blocks = |columns: usize, block: usize, sums: usize| Blocks {
            q: vec![1; tokens * columns],
            d: vec![f32::NAN; tokens * columns / block],
            sums: vec![1; sums],
            fresh: false,
        };
        Self { by_32: blocks(by_32, 32, 0), by_256: blocks(by_256, SUPER, tokens * by_256 / 16) }
    }

    /// Bytes that [`Quantised::new`] takes.
    pub(crate) fn bytes(shape: &Shape, numerics: Numerics, tokens: usize) -> usize {
        let (by_32, by_256) = Self::columns(shape, numerics);
        tokens * (by_32 + 4 * by_32 / 32 + by_256 + 4 * by_256 / SUPER + 2 * by_256 / 16)
    }

    /// Widest activations of a token that may meet weights in blocks of 32, and of 256.
    fn columns(shape: &Shape, numerics: Numerics) -> (usize, usize) {
        if numerics.activations == Activations::F32 {
            return (0, 0);
        }
        let experts = shape.hidden.max(shape.experts_used * shape.expert_ff);
        (experts.max(shape.heads * shape.head_dim).max(shape.out_groups * shape.out_rank), experts)
    }

    /// Declares that the activations have changed.
    pub(crate) fn clear(&mut self) {
        self.by_32.fresh = false;
        self.by_256.fresh = false;
    }

    /// Quantises `x [T][cols]` for `format` unless that was done since [`Quantised::clear`].
    fn prepare(&mut self, pool: &mut Pool, format: Format, x: &[f32], cols: usize) {
        let block = format.block_len();
        let blocks = if block == SUPER { &mut self.by_256 } else { &mut self.by_32 };
        if blocks.fresh {
            return;
        }
        blocks.fresh = true;
        blocks.q.resize(x.len(), 0);
        blocks.d.resize(x.len() / block, 0.0);
        let d = SharedSlice::new(&mut blocks.d);
        pool.run_rows(&mut blocks.q, cols, |t, q, _| {
            // SAFETY: one task a token.
            #[allow(unsafe_code)]
            let d = unsafe { d.part(t * cols / block, cols / block) };
            quantise(&x[t * cols..][..cols], block, q, d);
        });
        if block == SUPER {
            blocks.sums.resize(x.len() / 16, 0);
            let q = &blocks.q;
            pool.run_rows(&mut blocks.sums, cols / 16, |t, sums, _| sums_of_16(&q[t * cols..][..cols], sums));
        }
    }
}

/// What one thread unpacks weight rows into.
#[derive(Default)]
pub(crate) struct RowScratch {
    wide: Vec<f32>,
    integers: SuperRow,
}

/// Where the products of one weight row with one token go: `out[place(i) · stride + row]` for the i-th token.
pub(crate) struct Target<'a> {
    pub(crate) out: &'a SharedSlice<'a, f32>,
    pub(crate) stride: usize,
}

/// Input rows for a matrix.
pub(crate) struct Inputs<'a> {
    pub(crate) mode: Activations,
    /// `[T][cols]`
    pub(crate) x: &'a [f32],
    pub(crate) quantised: &'a Quantised,
    pub(crate) cols: usize,
}

/// Whether products with this format use 8-bit activations.
pub(crate) fn uses_integers(mode: Activations, format: Format) -> bool {
    mode == Activations::Int8 && !matches!(format, Format::F32 | Format::F16 | Format::BF16)
}

impl Inputs<'_> {
    /// Multiplies weight rows `rows` (as stored, `format`) with the input rows named by `tokens` and puts the result for
    /// weight row r and input row t at `[place(t)][r]` of the target.
    ///
    /// # Safety
    /// No other task writes those places.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn rows(
        &self,
        format: Format,
        weights: &[u8],
        rows: std::ops::Range<usize>,
        tokens: &[(usize, usize)],
        target: &Target<'_>,
        scratch: &mut RowScratch,
    ) {
        let row_bytes = self.cols / format.block_len() * format.block_bytes();
        let integers = uses_integers(self.mode, format);
        for r in rows {
            let row = &weights[r * row_bytes..][..row_bytes];
            let product = self.row_products(format, row, integers, tokens.len(), scratch);
            for &(t, place) in tokens {
                // SAFETY: the caller's promise.
                unsafe { target.out.part(place * target.stride + r, 1)[0] = product(t) };
            }
        }
    }

    /// Prepares one weight row and returns what multiplies it with input row t.
    fn row_products<'s>(
        &'s self,
        format: Format,
        row: &'s [u8],
        integers: bool,
        tokens: usize,
        scratch: &'s mut RowScratch,
    ) -> impl Fn(usize) -> f32 + 's {
        enum Row<'r> {
            Stored(&'r [u8]),
            Integers(&'r SuperRow),
            Wide(&'r [f32]),
        }
        let float = matches!(format, Format::F32 | Format::F16 | Format::BF16);
        let row = if integers && format == Format::Q8_0 || float && tokens == 1 {
            Row::Stored(row)
        } else if integers {
            scratch.integers.unpack(format, row);
            Row::Integers(&scratch.integers)
        } else {
            scratch.wide.resize(self.cols, 0.0);
            blocks::decode(format, row, &mut scratch.wide).expect("the loader checked format and size");
            Row::Wide(&scratch.wide)
        };
        let x = move |t: usize| &self.x[t * self.cols..][..self.cols];
        let part = |n: usize, t: usize| t * n..(t + 1) * n;
        move |t| match row {
            Row::Stored(row) if float => float_row(format, row, x(t)),
            Row::Stored(row) => {
                let b = &self.quantised.by_32;
                q8_0_row(row, &b.q[part(self.cols, t)], &b.d[part(self.cols / 32, t)])
            }
            Row::Integers(row) => {
                let b = &self.quantised.by_256;
                let (q, d, sums) = (part(self.cols, t), part(self.cols / SUPER, t), part(self.cols / 16, t));
                row.dot(&b.q[q], &b.d[d], &b.sums[sums])
            }
            Row::Wide(row) => f32_row(row, x(t)),
        }
    }
}

/// Quantises `x` for `format` if the mode wants it.
pub(crate) fn prepare(
    pool: &mut Pool,
    mode: Activations,
    quantised: &mut Quantised,
    format: Format,
    x: &[f32],
    cols: usize,
) {
    if uses_integers(mode, format) {
        quantised.prepare(pool, format, x, cols);
    }
}

/// `out[t][r] = w[r] · x[t]` for all tokens; `out` is `[T][w.rows]`.
pub(crate) fn matmul(
    pool: &mut Pool,
    scratch: &[std::sync::Mutex<RowScratch>],
    inputs: &Inputs<'_>,
    w: &Matrix,
    out: &mut [f32],
) {
    let tokens: Vec<(usize, usize)> = (0..out.len() / w.rows).map(|t| (t, t)).collect();
    let out = SharedSlice::new(out);
    let target = Target { out: &out, stride: w.rows };
    let rows = rows_per_task(w.rows, w.cols * tokens.len());
    pool.run(w.rows.div_ceil(rows), |task, worker| {
        let rows = task * rows..w.rows.min((task + 1) * rows);
        let mut scratch = scratch[worker].lock().expect("never poisoned");
        // SAFETY: tasks own distinct weight rows, hence distinct output columns.
        #[allow(unsafe_code)]
        unsafe {
            inputs.rows(w.format, &w.bytes, rows, &tokens, &target, &mut scratch);
        }
    });
}
