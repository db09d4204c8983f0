//! Attention over stored rows.

use ds4_model::{Series, Shape, Span};

use crate::Limits;
use crate::buffer::Picks;
use crate::cache::Cache;
use crate::kernels::attention::{accumulate, scores, softmax};
use crate::kernels::indexer::Keys;
use crate::kernels::norm::{Turn, rotate};
use crate::kernels::rows;
use crate::pool::{SharedSlice, worth};
use crate::step::{Step, visible};

/// Stored rows that are read at a time.
const BLOCK: usize = 64;

/// What one thread attends and selects with.
pub(crate) struct AttendScratch {
    /// `[heads of a task][rows]`
    scores: Vec<f32>,
    /// `[BLOCK][width]`
    pub(crate) tile: Vec<f32>,
    /// 1 / denominator of each head
    norms: Vec<f32>,
    /// Row numbers.
    pub(crate) order: Vec<u32>,
    /// Indexer rows that are being scored.
    pub(crate) keys: Keys,
}

impl AttendScratch {
    pub(crate) fn new(shape: &Shape, limits: Limits) -> Self {
        let rows = Self::most_rows(shape, limits);
        Self {
            scores: vec![f32::NAN; shape.heads * rows],
            tile: vec![f32::NAN; BLOCK * shape.head_dim.max(shape.index_dim)],
            norms: vec![f32::NAN; shape.heads],
            order: vec![1; Self::ordered(shape, limits)],
            keys: Keys::new(shape.index_dim),
        }
    }

    /// Bytes of one thread's memory.
    pub(crate) fn bytes(shape: &Shape, limits: Limits) -> usize {
        let rows = shape.heads * (Self::most_rows(shape, limits) + 1);
        let floats = rows + BLOCK * shape.head_dim.max(shape.index_dim) + Self::ordered(shape, limits);
        4 * floats + Keys::bytes(shape.index_dim)
    }

    /// Most rows that a token sees.
    fn most_rows(shape: &Shape, limits: Limits) -> usize {
        shape.window + shape.index_top_k.max(limits.context / 128)
    }

    /// Most rows that are ranked.
    fn ordered(shape: &Shape, limits: Limits) -> usize {
        if shape.has_indexer() { limits.context / 4 } else { 0 }
    }
}

impl Step<'_> {
    /// Attention of every token and head over its window of `window` rows and its compressed rows. `q`, `out`: `[T][H·d]`; `picks [T][top_k]`.
    #[allow(clippy::too_many_arguments, reason = "one fused kernel")]
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        q: &[f32],
        sinks: &[f32],
        cache: &Cache,
        picks: Option<&Picks>,
        window: usize,
        out: &mut [f32],
    ) {
        let (tokens, d) = (self.batch.len(), cache.layout().row.width());
        // Few tokens: split the heads, so that every thread has work.
        let parts = self.pool.threads().div_ceil(tokens).min(sinks.len());
        let heads = sinks.len().div_ceil(parts).max(worth(2 * window * d)).min(sinks.len());
        let parts = sinks.len().div_ceil(heads);
        let span_of: Vec<&Span> = self.batch.spans().iter().flat_map(|s| s.tokens.clone().map(move |_| s)).collect();
        let out = SharedSlice::new(out);
        let step = &*self;
        let (batch, scratch) = (step.batch, step.scratch);
        let angles = step.angles;
        let pairs = angles.len() / tokens;
        self.pool.run(tokens * parts, |task, worker| {
            let (t, part) = (task / parts, task % parts);
            let first = part * heads;
            let heads = heads.min(sinks.len() - first);
            let rows = VisibleRows {
                cache,
                layer,
                span: span_of[t],
                position: batch.positions()[t],
                window,
                picks: picks.map(|p| p.row(t)),
            };
            // SAFETY: tasks own distinct heads of distinct tokens.
            #[allow(unsafe_code)]
            let out = unsafe { out.part((t * sinks.len() + first) * d, heads * d) };
            let q = &q[(t * sinks.len() + first) * d..][..heads * d];
            let mut scratch = scratch[worker].lock().expect("never poisoned");
            rows.attend(q, &sinks[first..first + heads], out, &mut scratch);
            for head in out.chunks_mut(d) {
                rotate(head, &angles[t * pairs..][..pairs], Turn::Back);
            }
        });
    }
}

/// The stored rows that one token sees: its window, oldest first, then compressed rows.
struct VisibleRows<'a> {
    cache: &'a Cache,
    layer: usize,
    span: &'a Span,
    position: u32,
    window: usize,
    picks: Option<&'a [u32]>,
}

impl VisibleRows<'_> {
    fn window_len(&self) -> usize {
        self.window.min(self.position as usize + 1)
    }

    fn len(&self) -> usize {
        let compressed = match (self.picks, self.cache.ratio(self.layer)) {
            (_, 0) => 0,
            (None, ratio) => visible(self.position, ratio),
            (Some(picks), _) => picks.iter().take_while(|p| **p != u32::MAX).count(),
        };
        self.window_len() + compressed
    }

    fn row(&self, index: usize) -> &[u8] {
        let window = self.window_len();
        if index < window {
            let position = self.position + 1 - window as u32 + index as u32;
            return self.cache.window_row(self.layer, self.span.slot, position);
        }
        let compressed = self.picks.map_or(index - window, |p| p[index - window] as usize);
        self.cache.row(self.layer, Series::Attention, &self.span.pages, compressed)
    }

    /// Heads `q [h][d]` over all rows: scores, softmax with the sink, weighted sum.
    fn attend(&self, q: &[f32], sinks: &[f32], out: &mut [f32], scratch: &mut AttendScratch) {
        let layout = self.cache.layout().row;
        let (n, d) = (self.len(), layout.width());
        let scale = (1.0 / (d as f64).sqrt()) as f32;
        let AttendScratch { scores: memory, tile, norms, .. } = scratch;
        let memory = &mut memory[..sinks.len() * n];
        for first in (0..n).step_by(BLOCK) {
            let rows = self.load(first, n, tile);
            scores(q, &tile[..rows * d], d, scale, &mut memory[first..], n);
        }
        for ((s, sink), norm) in memory.chunks_mut(n).zip(sinks).zip(norms.iter_mut()) {
            *norm = softmax(s, *sink);
        }
        out.fill(0.0);
        for first in (0..n).step_by(BLOCK) {
            let rows = self.load(first, n, tile);
            accumulate(&memory[first..], n, &tile[..rows * d], d, out);
        }
        for (out, norm) in out.chunks_mut(d).zip(norms) {
            out.iter_mut().for_each(|x| *x *= *norm);
        }
    }

    /// Decodes up to [`BLOCK`] rows from `first` and returns how many.
    fn load(&self, first: usize, n: usize, tile: &mut [f32]) -> usize {
        let layout = self.cache.layout().row;
        let rows = BLOCK.min(n - first);
        for (i, out) in tile.chunks_mut(layout.width()).take(rows).enumerate() {
            rows::decode(layout, self.row(first + i), out);
        }
        rows
    }
}
