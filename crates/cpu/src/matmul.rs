//! Matrix products over a step's tokens, split over threads by output rows.

use ds4_gguf::{Format, blocks};
use ds4_model::{Activations, Matrix, Numerics, Shape};

use crate::kernels::Family;
use crate::kernels::activations::{quantise, sums_of_16};
use crate::kernels::products::{Activation, SUPER, f32_row, float_mat_vec, mat_vec};
use crate::kernels::unpacked::SuperRow;
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
    /// `[T][cols / 16]`
    sums: Vec<i16>,
    fresh: bool,
}

impl Quantised {
    /// Memory for steps of `tokens` tokens.
    pub(crate) fn new(shape: &Shape, numerics: Numerics, tokens: usize) -> Self {
        let (by_32, by_256) = Self::columns(shape, numerics);
        let blocks = |columns: usize, block: usize| Blocks {
            q: vec![1; tokens * columns],
            d: vec![f32::NAN; tokens * columns / block],
            sums: vec![1; tokens * columns / 16],
            fresh: false,
        };
        Self { by_32: blocks(by_32, 32), by_256: blocks(by_256, SUPER) }
    }

    /// Bytes that [`Quantised::new`] takes.
    pub(crate) fn bytes(shape: &Shape, numerics: Numerics, tokens: usize) -> usize {
        let (by_32, by_256) = Self::columns(shape, numerics);
        let blocks = |columns: usize, block: usize| columns + 4 * columns / block + 2 * columns / 16;
        tokens * (blocks(by_32, 32) + blocks(by_256, SUPER))
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
        blocks.sums.resize(x.len() / 16, 0);
        let q = &blocks.q;
        pool.run_rows(&mut blocks.sums, cols / 16, |t, sums, _| sums_of_16(&q[t * cols..][..cols], sums));
    }

    /// Row `t` of the activations for weights of `format`.
    fn row(&self, format: Format, t: usize, cols: usize) -> Activation<'_> {
        let block = format.block_len();
        let b = if block == SUPER { &self.by_256 } else { &self.by_32 };
        let part = |n: usize| t * n..(t + 1) * n;
        Activation { q: &b.q[part(cols)], d: &b.d[part(cols / block)], sums: &b.sums[part(cols / 16)] }
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
        let w = &weights[rows.start * row_bytes..rows.end * row_bytes];
        let float = matches!(format, Format::F32 | Format::F16 | Format::BF16);
        let integers = uses_integers(self.mode, format);
        if float || integers && (format == Format::Q8_0 || tokens.len() <= FEW) {
            for &(t, place) in tokens {
                // SAFETY: the caller's promise.
                let y = unsafe { target.out.part(place * target.stride + rows.start, rows.len()) };
                match float {
                    true => float_mat_vec(Family::current(), format, w, self.row(t), y),
                    false => mat_vec(Family::current(), format, w, self.quantised.row(format, t, self.cols), y),
                }
            }
            return;
        }
        for (r, row) in rows.zip(w.chunks_exact(row_bytes)) {
            let put = |place: usize, y: f32| {
                // SAFETY: the caller's promise.
                unsafe { target.out.part(place * target.stride + r, 1)[0] = y };
            };
            if integers {
                scratch.integers.unpack(format, row);
                for &(t, place) in tokens {
                    put(place, scratch.integers.dot(self.quantised.row(format, t, self.cols)));
                }
            } else {
                scratch.wide.resize(self.cols, 0.0);
                blocks::decode(format, row, &mut scratch.wide).expect("the loader checked format and size");
                for &(t, place) in tokens {
                    put(place, f32_row(&scratch.wide, self.row(t)));
                }
            }
        }
    }

    fn row(&self, t: usize) -> &[f32] {
        &self.x[t * self.cols..][..self.cols]
    }
}

/// Tokens for which a row of 256-column blocks is not unpacked.
const FEW: usize = 2;

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
