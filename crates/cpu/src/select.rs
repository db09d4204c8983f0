//! The indexer: which compressed rows a token attends to.

use std::ops::Range;

use ds4_model::{RowLayout, Series, Shape, Span};

use crate::Limits;
use crate::attend::AttendScratch;
use crate::cache::Cache;
use crate::kernels::Family;
use crate::kernels::indexer::{self, Keys, Query, ROWS};
use crate::kernels::norm::{Turn, rotate};
use crate::kernels::rows::{self, FP4_BLOCK};
use crate::pool::SharedSlice;
use crate::step::{Step, visible};

/// Rows that a task scores, and tokens it scores them for.
const SCORED: usize = 128;
const TOKENS: usize = 32;
/// Scores that are held for a step, unless one token needs more.
const SCORES: usize = 1 << 20;

/// The indexer's queries of a step.
pub(crate) struct IndexQueries<'a> {
    /// `[T][heads·dim]`, as projected
    pub(crate) q: &'a [f32],
    /// `[T][heads]`, as projected
    pub(crate) weights: &'a [f32],
    pub(crate) heads: usize,
    pub(crate) dim: usize,
}

/// Memory for [`Step::select_rows`]: scores of as many tokens at a time as fit.
pub(crate) struct SelectScratch {
    scores: Vec<f32>,
    queries: Vec<PreparedQuery>,
}

impl SelectScratch {
    pub(crate) fn new(shape: &Shape, limits: Limits) -> Self {
        let mut queries = Vec::new();
        queries.resize_with(Self::tokens(shape, limits), || PreparedQuery::new(shape));
        Self { scores: vec![f32::NAN; Self::scores(shape, limits)], queries }
    }

    pub(crate) fn bytes(shape: &Shape, limits: Limits) -> usize {
        4 * Self::scores(shape, limits) + Self::tokens(shape, limits) * PreparedQuery::bytes(shape)
    }

    /// Scores that are held: of a whole step, but no more than [`SCORES`] unless one token needs more.
    fn scores(shape: &Shape, limits: Limits) -> usize {
        let rows = if shape.has_indexer() { limits.context / 4 } else { 0 };
        (limits.tokens * rows).min(SCORES.max(rows))
    }

    fn tokens(shape: &Shape, limits: Limits) -> usize {
        if shape.has_indexer() { limits.tokens } else { 0 }
    }
}

/// One token's queries, rotated and transformed: integers and scales, or f32 in exact mode.
struct PreparedQuery {
    values: Vec<f32>,
    doubled: Vec<i8>,
    offsets: Vec<i32>,
    half_scales: Vec<f32>,
    weights: Vec<f32>,
    /// One row as stored
    stored: Vec<u8>,
}

impl PreparedQuery {
    fn new(shape: &Shape) -> Self {
        let width = shape.index_heads * shape.index_dim;
        Self {
            values: vec![f32::NAN; width],
            doubled: vec![1; width],
            offsets: vec![1; width / FP4_BLOCK],
            half_scales: vec![f32::NAN; width / FP4_BLOCK],
            weights: vec![f32::NAN; shape.index_heads],
            stored: vec![1; Self::row(shape)],
        }
    }

    fn bytes(shape: &Shape) -> usize {
        let width = shape.index_heads * shape.index_dim;
        5 * width + 4 * (2 * (width / FP4_BLOCK) + shape.index_heads) + Self::row(shape)
    }

    fn row(shape: &Shape) -> usize {
        RowLayout::Fp4 { width: shape.index_dim }.bytes()
    }

    fn prepare(&mut self, q: &IndexQueries<'_>, t: usize, angles: &[(f32, f32)], layout: RowLayout) {
        let width = q.heads * q.dim;
        self.values.copy_from_slice(&q.q[t * width..][..width]);
        let unit = (1.0 / (width as f64).sqrt()) as f32;
        for (weight, w) in self.weights.iter_mut().zip(&q.weights[t * q.heads..]) {
            *weight = w * unit;
        }
        for (h, head) in self.values.chunks_mut(q.dim).enumerate() {
            rotate(head, angles, Turn::Forward);
            indexer::hadamard(head);
            if let RowLayout::Fp4 { .. } = layout {
                rows::encode(layout, head, &mut self.stored);
                let blocks = q.dim / FP4_BLOCK;
                let part = h * blocks..(h + 1) * blocks;
                let doubled = &mut self.doubled[h * q.dim..][..q.dim];
                indexer::unpack(&self.stored, doubled, &mut self.offsets[part.clone()], &mut self.half_scales[part]);
            }
        }
    }

    /// The queries as integers; not in exact mode.
    fn integers(&self) -> Query<'_> {
        Query { doubled: &self.doubled, offsets: &self.offsets, half_scales: &self.half_scales, weights: &self.weights }
    }
}

impl Step<'_> {
    /// Chooses compressed rows for each token; `picks [T][top_k]`.
    pub(crate) fn select_rows(
        &mut self,
        layer: usize,
        queries: &IndexQueries<'_>,
        cache: &Cache,
        memory: &mut SelectScratch,
        picks: &mut [u32],
    ) {
        let top_k = picks.len() / self.batch.len();
        for span in self.batch.spans() {
            let most = visible(span.position + span.tokens.len() as u32 - 1, 4);
            // Tokens whose scores are held at once.
            let group = (memory.scores.len() / most.max(1)).clamp(1, span.tokens.len());
            for first in span.tokens.clone().step_by(group) {
                let tokens = first..span.tokens.end.min(first + group);
                if most > top_k {
                    self.score_rows(layer, queries, cache, memory, span, tokens.clone(), most);
                }
                let scores = &memory.scores;
                let picks = &mut picks[tokens.start * top_k..tokens.end * top_k];
                let (batch, scratch) = (self.batch, self.scratch);
                self.pool.run_rows(picks, top_k, |i, picks, worker| {
                    let n = visible(batch.positions()[tokens.start + i], 4);
                    let mut scratch = scratch[worker].lock().expect("never poisoned");
                    if n <= top_k {
                        indexer::all(n, picks);
                    } else {
                        indexer::best(&scores[i * most..][..n], &mut scratch.order, picks);
                    }
                });
            }
        }
    }

    /// Scores of the rows that each of `tokens` sees, `[tokens][most]`.
    #[allow(clippy::too_many_arguments, reason = "half of one fused kernel")]
    fn score_rows(
        &mut self,
        layer: usize,
        queries: &IndexQueries<'_>,
        cache: &Cache,
        memory: &mut SelectScratch,
        span: &Span,
        tokens: Range<usize>,
        most: usize,
    ) {
        let layout = cache.layout().index_row;
        let SelectScratch { scores, queries: prepared } = memory;
        let (batch, scratch) = (self.batch, self.scratch);
        let angles = self.angles;
        let pairs = angles.len() / batch.len();
        self.pool.run_rows(&mut prepared[..tokens.len()], 1, |i, prepared, _| {
            let t = tokens.start + i;
            prepared[0].prepare(queries, t, &angles[t * pairs..][..pairs], layout);
        });
        let scores = SharedSlice::new(scores);
        let (blocks, groups) = (most.div_ceil(SCORED), tokens.len().div_ceil(TOKENS));
        self.pool.run(groups * blocks, |task, worker| {
            let (group, block) = (task / blocks, task % blocks);
            let mut scratch = scratch[worker].lock().expect("never poisoned");
            let group = group * TOKENS..tokens.len().min((group + 1) * TOKENS);
            for first in (block * SCORED..most.min((block + 1) * SCORED)).step_by(ROWS) {
                // Rows that are not there repeat the last one.
                let row = |r: usize| cache.row(layer, Series::Index, &span.pages, (first + r).min(most - 1));
                let keys = scratch.key_rows(layout, row);
                for i in group.clone() {
                    let n = visible(batch.positions()[tokens.start + i], 4).saturating_sub(first).min(ROWS);
                    if n > 0 {
                        // SAFETY: tasks own distinct tokens or rows.
                        #[allow(unsafe_code)]
                        let scores = unsafe { scores.part(i * most + first, n) };
                        scores.copy_from_slice(&keys.scores(&prepared[i])[..n]);
                    }
                }
            }
        });
    }
}

/// Rows of keys, ready to be scored.
enum KeyRows<'a> {
    Integers(&'a Keys),
    /// Exact mode: `[ROWS][dim]`
    Floats(&'a [f32]),
}

impl AttendScratch {
    fn key_rows<'r>(&mut self, layout: RowLayout, row: impl Fn(usize) -> &'r [u8]) -> KeyRows<'_> {
        if let RowLayout::Fp4 { .. } = layout {
            self.keys.fill(Family::current(), std::array::from_fn(row));
            return KeyRows::Integers(&self.keys);
        }
        let floats = &mut self.tile[..ROWS * layout.width()];
        for (r, floats) in floats.chunks_mut(layout.width()).enumerate() {
            rows::decode(layout, row(r), floats);
        }
        KeyRows::Floats(floats)
    }
}

impl KeyRows<'_> {
    fn scores(&self, query: &PreparedQuery) -> [f32; ROWS] {
        match self {
            KeyRows::Integers(keys) => indexer::scores(Family::current(), &query.integers(), keys),
            KeyRows::Floats(rows) => {
                let dim = rows.len() / ROWS;
                std::array::from_fn(|r| indexer::score_f32(&query.values, &query.weights, &rows[r * dim..][..dim]))
            }
        }
    }
}
