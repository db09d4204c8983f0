//! Activations in the forms that weight formats want, made when first needed.

use ds4_gguf::Format;
use ds4_model::{Activations, Numerics, Shape};

use crate::kernels::Family;
use crate::kernels::activations::{quantise, sums_of_16};
use crate::kernels::panels::{PANEL, pack, panel_len};
use crate::kernels::products::{Activation, FEW, SUPER, has_mat_few, has_mat_mat};
use crate::pool::{Pool, SharedSlice};

/// Eight-bit activations of up to T tokens, kept until [`Quantised::clear`].
#[derive(Default)]
pub(crate) struct Quantised {
    by_32: Blocks,
    by_256: Blocks,
    packed: Packed,
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

/// Panels of tokens, for products of matrices with matrices.
#[derive(Default)]
struct Packed {
    panels: Vec<i32>,
    /// Tokens of each panel: a part's number, and the first of its inputs
    list: Vec<(usize, usize)>,
    /// First panel of each part
    first: Vec<usize>,
    /// Block length, 0 when there is nothing
    block: usize,
    /// Fewest rows of a part that has panels
    least: usize,
}

/// Which input rows meet one part of a matrix product, and where their products go: `(input row, output row)` of each.
#[derive(Clone, Copy)]
pub(crate) enum Uses<'a> {
    /// Any rows.
    List(&'a [(usize, usize)]),
    /// Input rows `first`, `first + step`, …, to output rows 0, 1, ….
    Every {
        /// The first row.
        first: usize,
        /// From one to the next.
        step: usize,
        /// How many.
        len: usize,
    },
}

impl Uses<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Uses::List(list) => list.len(),
            Uses::Every { len, .. } => len,
        }
    }

    pub(crate) fn get(self, i: usize) -> (usize, usize) {
        match self {
            Uses::List(list) => list[i],
            Uses::Every { first, step, .. } => (first + step * i, i),
        }
    }
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
        let panels = vec![1; Self::panels_len(shape, numerics, tokens)];
        Self { by_32: blocks(by_32, 32), by_256: blocks(by_256, SUPER), packed: Packed { panels, ..Packed::default() } }
    }

    /// Bytes that [`Quantised::new`] takes.
    pub(crate) fn bytes(shape: &Shape, numerics: Numerics, tokens: usize) -> usize {
        let (by_32, by_256) = Self::columns(shape, numerics);
        let blocks = |columns: usize, block: usize| columns + 4 * columns / block + 2 * columns / 16;
        tokens * (blocks(by_32, 32) + blocks(by_256, SUPER)) + 4 * Self::panels_len(shape, numerics, tokens)
    }

    /// Widest activations of a token that may meet weights in blocks of 32, and of 256.
    fn columns(shape: &Shape, numerics: Numerics) -> (usize, usize) {
        if numerics.activations == Activations::F32 {
            return (0, 0);
        }
        let experts = shape.hidden.max(shape.experts_used * shape.expert_ff);
        (experts.max(shape.heads * shape.head_dim).max(shape.out_groups * shape.out_rank), experts)
    }

    /// Numbers in the panels of a step. Every part with at least two rows may have panels; see [`least_for_panels`].
    fn panels_len(shape: &Shape, numerics: Numerics, tokens: usize) -> usize {
        if numerics.activations == Activations::F32 || !has_mat_mat(Family::current()) {
            return 0;
        }
        let panels = |rows: usize, cols: usize, parts: usize| {
            ((rows / 2).min(rows / PANEL + parts)) * panel_len(cols.next_multiple_of(32), 32)
        };
        let uses = tokens * shape.experts_used;
        let heads = shape.heads * shape.head_dim;
        let wide = panels(uses, shape.hidden.max(shape.expert_ff), shape.experts);
        let narrow = panels(tokens, heads.max(shape.out_groups * shape.out_rank).max(shape.hidden), 1);
        wide.max(narrow)
    }

    /// Declares that the activations have changed.
    pub(crate) fn clear(&mut self) {
        self.by_32.fresh = false;
        self.by_256.fresh = false;
        self.packed.block = 0;
    }

    fn blocks(&self, format: Format) -> &Blocks {
        if format.block_len() == SUPER { &self.by_256 } else { &self.by_32 }
    }

    /// Quantises `x [T][cols]` for `format` unless that was done since [`Quantised::clear`].
    pub(crate) fn prepare(&mut self, pool: &mut Pool, format: Format, x: &[f32], cols: usize) {
        let block = format.block_len();
        let blocks = if block == SUPER { &mut self.by_256 } else { &mut self.by_32 };
        if blocks.fresh {
            return;
        }
        blocks.fresh = true;
        blocks.q.resize(x.len(), 0);
        blocks.d.resize(x.len() / block, 0.0);
        blocks.sums.resize(x.len() / 16, 0);
        let (d, sums) = (SharedSlice::new(&mut blocks.d), SharedSlice::new(&mut blocks.sums));
        pool.run_rows(&mut blocks.q, cols, |t, q, _| {
            // SAFETY: one task a token.
            #[allow(unsafe_code)]
            let (d, sums) = unsafe { (d.part(t * cols / block, cols / block), sums.part(t * cols / 16, cols / 16)) };
            quantise(&x[t * cols..][..cols], block, q, d);
            sums_of_16(q, sums);
        });
    }

    /// Packs panels for every part that many rows meet, unless that was done since [`Quantised::clear`]. Parts and uses
    /// are the same until then.
    pub(crate) fn pack<'u>(
        &mut self,
        pool: &mut Pool,
        format: Format,
        cols: usize,
        parts: usize,
        uses: impl Fn(usize) -> Uses<'u> + Sync,
    ) {
        let (block, least) = (format.block_len(), least_for_panels(format));
        if (self.packed.block, self.packed.least) == (block, least) {
            return;
        }
        let mut packed = std::mem::take(&mut self.packed);
        (packed.block, packed.least) = (block, least);
        packed.list.clear();
        packed.first.clear();
        for part in 0..parts {
            packed.first.push(packed.list.len());
            let rows = uses(part).len();
            if rows >= least {
                packed.list.extend((0..rows).step_by(PANEL).map(|first| (part, first)));
            }
        }
        let len = panel_len(cols, block);
        packed.panels.resize(packed.panels.len().max(packed.list.len() * len), 0);
        let this = &*self;
        pool.run_rows(&mut packed.panels[..packed.list.len() * len], len, |i, panel, _| {
            let (part, first) = packed.list[i];
            let uses = uses(part);
            let rows = (first..uses.len().min(first + PANEL)).map(|i| this.row(format, uses.get(i).0, cols));
            pack(rows, block, panel);
        });
        self.packed = packed;
    }

    /// The panels of a part.
    pub(crate) fn panels(&self, part: usize, cols: usize) -> &[i32] {
        let len = panel_len(cols, self.packed.block);
        &self.packed.panels[self.packed.first[part] * len..]
    }

    /// Row `t` of the activations for weights of `format`.
    pub(crate) fn row(&self, format: Format, t: usize, cols: usize) -> Activation<'_> {
        let (b, block) = (self.blocks(format), format.block_len());
        let part = |n: usize| t * n..(t + 1) * n;
        Activation { q: &b.q[part(cols)], d: &b.d[part(cols / block)], sums: &b.sums[part(cols / 16)] }
    }
}

/// Rows from which on weights are unpacked into a tile for all of them.
pub(crate) const MANY: usize = 3;

/// Rows of a part from which on it has panels.
pub(crate) fn least_for_panels(format: Format) -> usize {
    let family = Family::current();
    if !has_mat_mat(family) {
        return usize::MAX;
    }
    match format {
        _ if has_mat_few(family, format) => FEW + 1,
        // Rows meet their tokens while they are in registers: that pays for two.
        Format::Q8_0 if family == Family::Avx512 => 2,
        _ => MANY,
    }
}
