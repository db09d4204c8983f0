//! The indexer: which compressed rows a token attends to.

use std::ops::Range;

use ds4_model::{RowLayout, Series, Shape, Span};

use crate::Limits;
use crate::attend::AttendScratch;
use crate::cache::Cache;
use crate::kernels::indexer::{self, Query};
use crate::kernels::norm::{Turn, rotate};
use crate::kernels::rows::{self, FP4_BLOCK};
use crate::pool::SharedSlice;
use crate::step::{Step, visible};

/// Rows that a task scores.
const SCORED: usize = 128;
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
    half_scales: Vec<f32>,
    weights: Vec<f32>,
}

impl PreparedQuery {
    fn new(shape: &Shape) -> Self {
        let width = shape.index_heads * shape.index_dim;
        Self {
            values: vec![f32::NAN; width],
            doubled: vec![1; width],
            half_scales: vec![f32::NAN; width / FP4_BLOCK],
            weights: vec![f32::NAN; shape.index_heads],
        }
    }

    fn bytes(shape: &Shape) -> usize {
        let width = shape.index_heads * shape.index_dim;
        5 * width + 4 * (width / FP4_BLOCK + shape.index_heads)
    }

    fn prepare(&mut self, q: &IndexQueries<'_>, t: usize, angles: &[(f32, f32)], layout: RowLayout) {
        let width = q.heads * q.dim;
        self.values.copy_from_slice(&q.q[t * width..][..width]);
        let unit = (1.0 / (width as f64).sqrt()) as f32;
        for (weight, w) in self.weights.iter_mut().zip(&q.weights[t * q.heads..]) {
            *weight = w * unit;
        }
        let mut stored = vec![0; layout.bytes()];
        for (h, head) in self.values.chunks_mut(q.dim).enumerate() {
            rotate(head, angles, Turn::Forward);
            indexer::hadamard(head);
            if let RowLayout::Fp4 { .. } = layout {
                rows::encode(layout, head, &mut stored);
                let (doubled, scales) = (&mut self.doubled[h * q.dim..][..q.dim], q.dim / FP4_BLOCK);
                indexer::unpack(&stored, q.dim, doubled, &mut self.half_scales[h * scales..][..scales]);
            }
        }
    }

    fn score(&self, layout: RowLayout, row: &[u8], scratch: &mut AttendScratch) -> f32 {
        let dim = layout.width();
        if let RowLayout::Fp4 { .. } = layout {
            indexer::unpack(row, dim, &mut scratch.key, &mut scratch.key_scales);
            let query = Query { doubled: &self.doubled, half_scales: &self.half_scales, weights: &self.weights };
            return indexer::score(&query, &scratch.key, &scratch.key_scales);
        }
        rows::decode(layout, row, &mut scratch.tile[..dim]);
        indexer::score_f32(&self.values, &self.weights, &scratch.tile[..dim])
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
        for (prepared, t) in prepared.iter_mut().zip(tokens.clone()) {
            prepared.prepare(queries, t, self.angles_of(t), layout);
        }
        let scores = SharedSlice::new(scores);
        let blocks = most.div_ceil(SCORED);
        let (batch, scratch) = (self.batch, self.scratch);
        self.pool.run(tokens.len() * blocks, |task, worker| {
            let (i, block) = (task / blocks, task % blocks);
            let n = visible(batch.positions()[tokens.start + i], 4);
            let rows = block * SCORED..n.min((block + 1) * SCORED);
            if rows.is_empty() {
                return;
            }
            let mut scratch = scratch[worker].lock().expect("never poisoned");
            // SAFETY: tasks own distinct tokens or rows.
            #[allow(unsafe_code)]
            let scores = unsafe { scores.part(i * most + rows.start, rows.len()) };
            for (score, row) in scores.iter_mut().zip(rows) {
                *score = prepared[i].score(layout, cache.row(layer, Series::Index, &span.pages, row), &mut scratch);
            }
        });
    }
}
