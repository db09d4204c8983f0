//! Matrix products over a step's tokens, split over threads by output rows.

use std::ops::Range;
use std::sync::Mutex;

use ds4_gguf::{Format, blocks};
use ds4_model::{Activations, Matrix, Numerics, Shape};

use crate::kernels::Family;
use crate::kernels::products::{
    FEW, TOKENS, f32_row, float_mat_mat, float_mat_vec, has_mat_few, has_mat_mat, mat_few, mat_mat, mat_vec,
};
use crate::kernels::tile::{ROWS, Tile};
use crate::kernels::unpacked::SuperRow;
use crate::pool::{Pool, SharedSlice, rows_per_task};
use crate::quantised::{MANY, Quantised, Uses, least_for_panels};

/// What one thread unpacks weight rows into.
pub(crate) struct RowScratch {
    wide: Vec<f32>,
    integers: SuperRow,
    tile: Tile,
}

impl RowScratch {
    pub(crate) fn new(shape: &Shape, numerics: Numerics) -> Self {
        Self { wide: Vec::new(), integers: SuperRow::default(), tile: Tile::new(Self::columns(shape, numerics)) }
    }

    /// Bytes of one thread's memory.
    pub(crate) fn bytes(shape: &Shape, numerics: Numerics) -> usize {
        Tile::bytes(Self::columns(shape, numerics))
    }

    /// Longest row of a tile.
    fn columns(shape: &Shape, numerics: Numerics) -> usize {
        if numerics.activations == Activations::F32 || !has_mat_mat(Family::current()) {
            return 0;
        }
        let out = shape.group_width().max(shape.out_groups * shape.out_rank);
        shape.hidden.max(shape.q_rank).max(shape.expert_ff).max(out)
    }
}

/// The parts of the backend that products need.
pub(crate) struct Workshop<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) mode: Activations,
    pub(crate) quantised: &'a mut Quantised,
    pub(crate) scratch: &'a [Mutex<RowScratch>],
}

/// Weight rows, the input rows that meet them, and where the products of the first weight row go.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// As stored.
    pub(crate) weights: &'a [u8],
    pub(crate) uses: Uses<'a>,
    pub(crate) column: usize,
}

/// Input and weights of a product.
struct Product<'a> {
    format: Format,
    cols: usize,
    integers: bool,
    x: &'a [f32],
    quantised: &'a Quantised,
    out: &'a SharedSlice<'a, f32>,
    /// Width of an output row.
    stride: usize,
}

impl Workshop<'_> {
    /// `out[t][r] = w[r] · x[t]` for all tokens; `out` is `[T][w.rows]`.
    pub(crate) fn matmul(&mut self, w: &Matrix, x: &[f32], out: &mut [f32]) {
        let uses = Uses::Every { first: 0, step: 1, len: out.len() / w.rows };
        self.parts(w, x, 1, w.rows, |_| Part { weights: &w.bytes, uses, column: 0 }, out, w.rows);
    }

    /// For each of `count` parts of `rows` weight rows, `out[output row][column + r] = weights[r] · x[input row]`.
    /// Columns and output rows of parts do not meet. `stride` is the width of an output row.
    #[allow(clippy::too_many_arguments, reason = "a matrix, its input, its parts, and the output")]
    pub(crate) fn parts<'p>(
        &mut self,
        w: &Matrix,
        x: &[f32],
        count: usize,
        rows: usize,
        part: impl Fn(usize) -> Part<'p> + Sync,
        out: &mut [f32],
        stride: usize,
    ) {
        self.prepare(w, x, count, |i| part(i).uses);
        let out = SharedSlice::new(out);
        let product = Product::new(self.mode, w, x, self.quantised, &out, stride);
        let uses = (0..count).map(|i| part(i).uses.len()).sum();
        split(self.pool, self.scratch, count, rows, w.cols, uses, |i, rows, scratch| {
            // SAFETY: tasks own distinct weight rows of a part, hence distinct columns; parts do not meet.
            #[allow(unsafe_code)]
            unsafe {
                product.rows(i, &part(i), rows, scratch);
            }
        });
    }

    /// Brings `x` into the form that products with `w` want, unless that was done since it changed.
    fn prepare<'u>(&mut self, w: &Matrix, x: &[f32], count: usize, uses: impl Fn(usize) -> Uses<'u> + Sync) {
        if uses_integers(self.mode, w.format) {
            self.quantised.prepare(self.pool, w.format, x, w.cols);
            if has_mat_mat(Family::current()) {
                self.quantised.pack(self.pool, w.format, w.cols, count, uses);
            }
        }
    }

    /// [`Workshop::parts`] of two matrices of one shape and format, with the same input. `join` sees the two products of
    /// each output row, some columns at a time, and leaves its result in the first. A part is an index of a matrix in
    /// either stack, and the input rows that meet it.
    pub(crate) fn pairs<'u>(
        &mut self,
        [a, b]: [(&Matrix, &mut [f32]); 2],
        x: &[f32],
        parts: &[(usize, Uses<'u>)],
        join: impl Fn(&mut [f32], &[f32], usize) + Sync,
    ) {
        self.prepare(a.0, x, parts.len(), |i| parts[i].1);
        let (rows, cols) = (a.0.rows, a.0.cols);
        let outs = [SharedSlice::new(a.1), SharedSlice::new(b.1)];
        let products =
            [(a.0, &outs[0]), (b.0, &outs[1])].map(|(w, out)| Product::new(self.mode, w, x, self.quantised, out, rows));
        let uses = parts.iter().map(|(_, uses)| uses.len()).sum();
        split(self.pool, self.scratch, parts.len(), rows, cols, uses, |i, range, scratch| {
            let (index, uses) = parts[i];
            for (product, w) in products.iter().zip([a.0, b.0]) {
                let part = Part { weights: w.matrix(index), uses, column: 0 };
                // SAFETY: as in `parts`.
                #[allow(unsafe_code)]
                unsafe {
                    product.rows(i, &part, range.clone(), scratch);
                }
            }
            for place in (0..uses.len()).map(|i| uses.get(i).1) {
                // SAFETY: this task's columns of this part's output rows, as above.
                #[allow(unsafe_code)]
                let [a, b] = [0, 1].map(|i| unsafe { outs[i].part(place * rows + range.start, range.len()) });
                join(a, b, place);
            }
        });
    }
}

/// Calls `job(part, weight rows)` for blocks of the `rows` rows of each of `count` parts, which `uses` input rows of
/// `cols` columns meet in all.
fn split(
    pool: &mut Pool,
    scratch: &[Mutex<RowScratch>],
    count: usize,
    rows: usize,
    cols: usize,
    uses: usize,
    job: impl Fn(usize, Range<usize>, &mut RowScratch) + Sync,
) {
    let each = rows_per_task(rows, cols * uses.div_ceil(count.max(1)), pool.threads());
    let blocks = rows.div_ceil(each);
    pool.run(count * blocks, |task, worker| {
        let first = task % blocks * each;
        let mut scratch = scratch[worker].lock().expect("never poisoned");
        job(task / blocks, first..rows.min(first + each), &mut scratch);
    });
}

/// Whether products with this format use 8-bit activations.
fn uses_integers(mode: Activations, format: Format) -> bool {
    mode == Activations::Int8 && !is_float(format)
}

fn is_float(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::BF16)
}

impl<'a> Product<'a> {
    fn new(
        mode: Activations,
        w: &Matrix,
        x: &'a [f32],
        quantised: &'a Quantised,
        out: &'a SharedSlice<'a, f32>,
        stride: usize,
    ) -> Self {
        let integers = uses_integers(mode, w.format);
        Self { format: w.format, cols: w.cols, integers, x, quantised, out, stride }
    }

    /// Weight rows `rows` of part number `index` times the input rows that meet them.
    ///
    /// # Safety
    /// No other task writes these columns of the part's output rows.
    #[allow(unsafe_code)]
    unsafe fn rows(&self, index: usize, part: &Part<'_>, rows: Range<usize>, scratch: &mut RowScratch) {
        let row_bytes = self.cols / self.format.block_len() * self.format.block_bytes();
        let w = &part.weights[rows.start * row_bytes..rows.end * row_bytes];
        let (family, uses) = (Family::current(), part.uses);
        let out = |place: usize, from: usize, len: usize| {
            // SAFETY: the caller's promise.
            unsafe { self.out.part(place * self.stride + part.column + rows.start + from, len) }
        };
        if self.integers && uses.len() >= least_for_panels(self.format) {
            let panels = self.quantised.panels(index, self.cols);
            for (i, w) in w.chunks(ROWS * row_bytes).enumerate() {
                let len = w.len() / row_bytes;
                mat_mat(family, self.format, w, self.cols, panels, uses.len(), &mut scratch.tile, |t, y| {
                    out(uses.get(t).1, i * ROWS, len).copy_from_slice(&y[..len]);
                });
            }
        } else if self.integers && uses.len() > 1 && has_mat_few(family, self.format) {
            let x: [_; FEW] =
                std::array::from_fn(|i| self.quantised.row(self.format, uses.get(i.min(uses.len() - 1)).0, self.cols));
            mat_few(family, self.format, w, self.cols, &x[..uses.len()], |t, r, y| {
                out(uses.get(t).1, r, y.len()).copy_from_slice(y);
            });
        } else if is_float(self.format) || self.integers && (self.format == Format::Q8_0 || uses.len() < MANY) {
            let mut done = 0;
            while !self.integers && done + TOKENS <= uses.len() {
                let four = [0, 1, 2, 3].map(|i| uses.get(done + i));
                let y = four.map(|(_, place)| out(place, 0, rows.len()));
                float_mat_mat(family, self.format, w, four.map(|(t, _)| self.row(t)), y);
                done += TOKENS;
            }
            for (t, place) in (done..uses.len()).map(|i| uses.get(i)) {
                let y = out(place, 0, rows.len());
                match self.integers {
                    false => float_mat_vec(family, self.format, w, self.row(t), y),
                    true => mat_vec(family, self.format, w, self.quantised.row(self.format, t, self.cols), y),
                }
            }
        } else {
            for (r, row) in w.chunks_exact(row_bytes).enumerate() {
                self.unpack(row, scratch);
                for (t, place) in (0..uses.len()).map(|i| uses.get(i)) {
                    out(place, r, 1)[0] = match self.integers {
                        true => scratch.integers.dot(self.quantised.row(self.format, t, self.cols)),
                        false => f32_row(&scratch.wide, self.row(t)),
                    };
                }
            }
        }
    }

    /// Unpacks a row once for all tokens.
    fn unpack(&self, row: &[u8], scratch: &mut RowScratch) {
        if self.integers {
            scratch.integers.unpack(self.format, row);
        } else {
            scratch.wide.resize(self.cols, 0.0);
            blocks::decode(self.format, row, &mut scratch.wide).expect("the loader checked format and size");
        }
    }

    fn row(&self, t: usize) -> &[f32] {
        &self.x[t * self.cols..][..self.cols]
    }
}
