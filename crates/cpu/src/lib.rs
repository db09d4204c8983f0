//! The forward pass on the CPU: [`Cpu`] implements the model's operations.
//!
//! `kernels` holds the arithmetic, the files beside it the walk over tokens, rows and threads. `unsafe` is limited to
//! the thread pool with its shared slices, and to entering code compiled for the machine's instruction set.

mod attend;
mod buffer;
mod cache;
mod experts;
#[doc(hidden)]
pub mod kernels;
mod limits;
mod matmul;
mod pool;
mod quantised;
mod select;
mod step;
mod store;

use std::ops::Range;
use std::sync::Mutex;

use ds4_model::rope::{Frequencies, RopeTable, sin_cos};
use ds4_model::{
    Batch, CacheLayout, Compressor, Experts, HyperConnection, HyperHead, Matrix, Numerics, Ops, PAGE_TOKENS, Router,
    Selection, Series, Shape, SharedExpert, Vector,
};

use attend::AttendScratch;
pub use buffer::{Buf, Picks};
pub use cache::Cache;
use experts::Groups;
pub use kernels::{Family, FamilyError};
use kernels::{hyper, norm, products, router};
pub use limits::{MachineLimits, large_pages};
use matmul::{Part, RowScratch, Workshop};
use pool::{Pool, SharedSlice};
use quantised::{Quantised, Uses};
use select::{IndexQueries, SelectScratch};
use step::{Angles, Step};
use store::CompressorWeights;

/// Values that [`Ops::hyper_in`] keeps per token: 4 out, 4 x 4 mixing.
const MIX: usize = Shape::STREAMS + Shape::STREAMS * Shape::STREAMS;

/// Sizes that a CPU backend is made for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads, the caller's included.
    pub threads: usize,
    /// Most tokens in a step.
    pub tokens: usize,
    /// Longest sequence.
    pub context: usize,
}

/// The CPU backend.
pub struct Cpu {
    shape: Shape,
    numerics: Numerics,
    frequencies: Frequencies,
    pool: Pool,
    batch: Batch,
    /// Rotation of each token by the two tables, `[T][pairs]`.
    angles_main: Angles,
    angles_compressed: Angles,
    quantised: Quantised,
    rows: Vec<Mutex<RowScratch>>,
    attend: Vec<Mutex<AttendScratch>>,
    select: SelectScratch,
    groups: Groups,
    /// Projected streams `[T, 24]`, router logits `[T, E]`
    small: Vec<f32>,
    /// Up values and outputs of every use of an expert, `[T·used, max(F, D)]`
    uses: Vec<f32>,
}

impl Cpu {
    /// A backend for a model of `shape`.
    pub fn new(shape: &Shape, numerics: Numerics, limits: Limits) -> Self {
        let pool = Pool::new(limits.threads);
        let threads = pool.threads();
        Self {
            frequencies: Frequencies::new(shape),
            numerics,
            pool,
            batch: Batch::new(),
            angles_main: Vec::new(),
            angles_compressed: Vec::new(),
            quantised: Quantised::new(shape, numerics, limits.tokens),
            rows: (0..threads).map(|_| Mutex::new(RowScratch::new(shape, numerics))).collect(),
            attend: (0..threads).map(|_| Mutex::new(AttendScratch::new(shape, limits))).collect(),
            select: SelectScratch::new(shape, limits),
            groups: Groups::default(),
            small: vec![f32::NAN; limits.tokens * shape.experts.max(Shape::mix_width())],
            uses: vec![f32::NAN; limits.tokens * uses_width(shape)],
            shape: shape.clone(),
        }
    }

    /// Bytes of memory that the backend itself holds, besides buffers and caches.
    pub fn bytes(shape: &Shape, numerics: Numerics, limits: Limits) -> usize {
        let floats = limits.tokens * (shape.experts.max(Shape::mix_width()) + uses_width(shape));
        let attend = limits.threads * (AttendScratch::bytes(shape, limits) + RowScratch::bytes(shape, numerics));
        4 * floats + Quantised::bytes(shape, numerics, limits.tokens) + attend + SelectScratch::bytes(shape, limits)
    }

    fn angles(&self, table: RopeTable) -> &Angles {
        match table {
            RopeTable::Main => &self.angles_main,
            RopeTable::Compressed => &self.angles_compressed,
        }
    }

    /// Splits the backend into what products need.
    fn workshop(&mut self) -> (Workshop<'_>, &mut Groups, &mut Vec<f32>) {
        let workshop = Workshop {
            pool: &mut self.pool,
            mode: self.numerics.activations,
            quantised: &mut self.quantised,
            scratch: &self.rows,
        };
        (workshop, &mut self.groups, &mut self.uses)
    }

    /// `out = W x` without starting new activations.
    fn matmul(&mut self, x: &[f32], w: &Matrix, out: &mut [f32]) {
        self.workshop().0.matmul(w, x, out);
    }
}

/// Width of a token's row in [`Cpu::uses`].
fn uses_width(shape: &Shape) -> usize {
    shape.experts_used * shape.expert_ff.max(shape.hidden)
}

/// The rotation of `position` for each channel pair.
fn angles_at(position: u32, frequencies: &[f32]) -> impl Iterator<Item = (f32, f32)> + '_ {
    frequencies.iter().map(move |&f| sin_cos(position, f))
}

impl Ops for Cpu {
    type Buf = Buf;
    type Picks = Picks;
    type Cache = Cache;

    fn buffer(&mut self, rows: usize, width: usize) -> Buf {
        Buf::new(rows, width)
    }

    fn picks(&mut self, rows: usize, width: usize) -> Picks {
        Picks::new(rows, width)
    }

    fn cache(&mut self, layout: &CacheLayout) -> Cache {
        Cache::new(layout)
    }

    fn write(&mut self, buf: &mut Buf, values: &[f32]) {
        let width = buf.width();
        buf.start(values.len() / width, width).copy_from_slice(values);
    }

    fn read(&mut self, buf: &Buf) -> Vec<f32> {
        buf.rows().to_vec()
    }

    fn read_picks(&mut self, picks: &Picks) -> Vec<u32> {
        picks.rows().to_vec()
    }

    fn export_point(&mut self, cache: &Cache, slot: usize, len: usize, pages: &[u32], out: &mut Vec<u8>) {
        cache.export_point(slot, len, pages, out);
    }

    fn import_point(&mut self, cache: &mut Cache, slot: usize, len: usize, pages: &[u32], bytes: &[u8]) {
        cache.import_point(slot, len, pages, bytes);
    }

    fn export_page(&mut self, cache: &Cache, page: u32, out: &mut Vec<u8>) {
        cache.export_page(page, PAGE_TOKENS, out);
    }

    fn import_page(&mut self, cache: &mut Cache, page: u32, bytes: &[u8]) {
        cache.import_page(page, PAGE_TOKENS, bytes);
    }

    fn read_rows(
        &mut self,
        cache: &Cache,
        layer: usize,
        series: Series,
        pages: &[u32],
        rows: Range<usize>,
    ) -> Vec<f32> {
        let layout = cache.row_layout(series);
        let mut values = vec![0.0; rows.len() * layout.width()];
        for (out, row) in values.chunks_mut(layout.width()).zip(rows) {
            kernels::rows::decode(layout, cache.row(layer, series, pages, row), out);
        }
        values
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch.clone_from(batch);
        for (angles, frequencies) in [
            (&mut self.angles_main, &self.frequencies.main),
            (&mut self.angles_compressed, &self.frequencies.compressed),
        ] {
            angles.clear();
            angles.extend(batch.positions().iter().flat_map(|&p| angles_at(p, frequencies)));
        }
    }

    fn embed(&mut self, table: &Matrix, streams: &mut Buf) {
        let d = table.cols;
        let tokens = self.batch.tokens();
        let out = streams.start(tokens.len(), Shape::STREAMS * d);
        self.pool.run_rows(out, Shape::STREAMS * d, |t, streams, _| {
            let (first, others) = streams.split_at_mut(d);
            let row = table.row(tokens[t] as usize);
            ds4_gguf::blocks::decode(table.format, row, first).expect("the loader checked format and size");
            others.chunks_mut(d).for_each(|s| s.copy_from_slice(first));
        });
    }

    fn hyper_in(&mut self, streams: &Buf, hc: &HyperConnection, norm: &Vector, x: &mut Buf, mix: &mut Buf) {
        let (t, d) = (streams.live(), self.shape.hidden);
        // The factor 1 / rms comes later.
        let mut m = std::mem::take(&mut self.small);
        self.matmul(streams.rows(), &hc.fn_, &mut m[..t * Shape::mix_width()]);
        let (hc_eps, rms_eps) = (self.shape.hc_eps, self.shape.rms_eps);
        let iterations = self.shape.sinkhorn_iterations;
        let mix = SharedSlice::new(mix.start(t, MIX));
        self.pool.run_rows(x.start(t, d), d, |t, x, _| {
            let streams = streams.row(t);
            let g = norm::inverse_rms(streams, rms_eps);
            let m: [f32; Shape::mix_width()] = std::array::from_fn(|i| m[t * Shape::mix_width() + i] * g);
            let c = hyper::coefficients(&m, &hc.scale.values, &hc.base.values, hc_eps, iterations);
            // SAFETY: one task a token.
            #[allow(unsafe_code)]
            let mix = unsafe { mix.part(t * MIX, MIX) };
            mix[..Shape::STREAMS].copy_from_slice(&c.post);
            mix[Shape::STREAMS..].copy_from_slice(c.comb.as_flattened());
            hyper::mix_in(streams, &c.pre, x);
            norm::rms_norm_in_place(x, &norm.values, rms_eps);
        });
        self.small = m;
    }

    fn hyper_out(&mut self, y: &Buf, mix: &Buf, streams: &mut Buf) {
        let width = streams.width();
        self.pool.run_rows(streams.rows_mut(), width, |t, streams, _| hyper::mix_out(y.row(t), mix.row(t), streams));
    }

    fn project(&mut self, x: &Buf, outs: &mut [(&Matrix, &mut Buf)]) {
        self.quantised.clear();
        for (w, out) in outs {
            self.matmul(x.rows(), w, out.start(x.live(), w.rows));
        }
    }

    fn project_groups(&mut self, x: &Buf, w: &Matrix, out: &mut Buf) {
        self.quantised.clear();
        let (groups, tokens) = (x.width() / w.cols, x.live());
        let (rows, row_bytes) = (w.rows / groups, w.row_bytes());
        let part = |g: usize| Part {
            weights: &w.bytes[g * rows * row_bytes..][..rows * row_bytes],
            uses: Uses::Every { first: g, step: groups, len: tokens },
            column: g * rows,
        };
        self.workshop().0.parts(w, x.rows(), groups, rows, part, out.start(tokens, w.rows), w.rows);
    }

    fn norm(&mut self, x: &mut Buf, weight: &Vector) {
        let (width, eps) = (x.width(), self.shape.rms_eps);
        self.pool.run_rows(x.rows_mut(), width, |_, x, _| norm::rms_norm_in_place(x, &weight.values, eps));
    }

    fn queries(&mut self, q: &mut Buf, table: RopeTable) {
        let (d, width, eps) = (self.shape.head_dim, q.width(), self.shape.rms_eps);
        let pairs = self.shape.rope_dim / 2;
        let angles = match table {
            RopeTable::Main => &self.angles_main,
            RopeTable::Compressed => &self.angles_compressed,
        };
        self.pool.run_rows(q.rows_mut(), width, |t, q, _| {
            for head in q.chunks_mut(d) {
                norm::rms_norm_plain(head, eps);
                norm::rotate(head, &angles[t * pairs..][..pairs], norm::Turn::Forward);
            }
        });
    }

    fn store_window(&mut self, layer: usize, kv: &Buf, norm: &Vector, table: RopeTable, cache: &mut Cache) {
        let eps = self.shape.rms_eps;
        store::store_window(&self.batch, layer, kv.rows(), &norm.values, eps, self.angles(table), cache);
    }

    fn compress(
        &mut self,
        layer: usize,
        series: Series,
        kv: &Buf,
        gate: &Buf,
        weights: &Compressor,
        cache: &mut Cache,
    ) {
        let w = CompressorWeights { ape: &weights.ape.values, norm: &weights.norm.values, eps: self.shape.rms_eps };
        let angles = |p| angles_at(p, &self.frequencies.compressed).collect();
        store::compress(&self.batch, layer, series, kv.rows(), gate.rows(), &w, angles, cache);
    }

    fn select_rows(&mut self, layer: usize, q: &Buf, weights: &Buf, cache: &Cache, picks: &mut Picks) {
        let queries = IndexQueries {
            q: q.rows(),
            weights: weights.rows(),
            heads: self.shape.index_heads,
            dim: self.shape.index_dim,
        };
        let mut step =
            Step { pool: &mut self.pool, scratch: &self.attend, batch: &self.batch, angles: &self.angles_compressed };
        step.select_rows(layer, &queries, cache, &mut self.select, picks.start(self.batch.len()));
    }

    fn attend(
        &mut self,
        layer: usize,
        q: &Buf,
        sinks: &Vector,
        table: RopeTable,
        cache: &Cache,
        picks: Option<&Picks>,
        out: &mut Buf,
    ) {
        let angles = match table {
            RopeTable::Main => &self.angles_main,
            RopeTable::Compressed => &self.angles_compressed,
        };
        let mut step = Step { pool: &mut self.pool, scratch: &self.attend, batch: &self.batch, angles };
        let out = out.start(q.live(), q.width());
        step.attend(layer, q.rows(), &sinks.values, cache, picks, self.shape.window, out);
    }

    fn route(&mut self, x: &Buf, router: &Router, picks: &mut Picks, weights: &mut Buf) {
        let (t, experts, used) = (x.live(), self.shape.experts, self.shape.experts_used);
        let mut logits = std::mem::take(&mut self.small);
        self.matmul(x.rows(), &router.gate, &mut logits[..t * experts]);
        let scale = self.shape.expert_scale;
        let tokens = self.batch.tokens();
        let weights = SharedSlice::new(weights.start(t, used));
        let scores = SharedSlice::new(&mut logits[..t * experts]);
        self.pool.run_rows(picks.start(t), used, |t, picks, _| {
            // SAFETY: one task a token.
            #[allow(unsafe_code)]
            let (scores, weights) = unsafe { (scores.part(t * experts, experts), weights.part(t * used, used)) };
            router::scores(scores);
            match &router.selection {
                Selection::Hash(table) => router::look_up(table, tokens[t] as usize, picks),
                Selection::Score(bias) => router::choose(scores, &bias.values, picks),
            }
            router::weights(scores, picks, scale, weights);
        });
        self.small = logits;
    }

    fn experts_in(&mut self, x: &Buf, experts: &Experts, clamp: f32, picks: &Picks, weights: &Buf, mid: &mut Buf) {
        let (t, used, width) = (x.live(), self.shape.experts_used, self.shape.expert_ff);
        let (mut workshop, groups, up) = self.workshop();
        groups.sort(picks.rows(), |u| u / used);
        let mid = mid.start(t, used * width);
        let up = &mut up[..mid.len()];
        workshop.inner(&experts.gate, &experts.up, clamp, groups, x.rows(), weights.rows(), mid, up);
    }

    fn experts_out(&mut self, mid: &Buf, experts: &Experts, picks: &Picks, out: &mut Buf) {
        let (t, d, used) = (mid.live(), self.shape.hidden, self.shape.experts_used);
        let (mut workshop, groups, uses) = self.workshop();
        groups.sort(picks.rows(), |u| u);
        workshop.outer(&experts.down, groups, mid.rows(), &mut uses[..t * used * d]);
        let uses = &self.uses;
        self.pool.run_rows(out.start(t, d), d, |t, out, _| {
            out.fill(0.0);
            for part in uses[t * used * d..][..used * d].chunks(d) {
                out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
            }
        });
    }

    fn shared_expert(&mut self, x: &Buf, expert: &SharedExpert, clamp: f32, mid: &mut Buf, out: &mut Buf) {
        let (t, d, width) = (x.live(), self.shape.hidden, self.shape.expert_ff);
        let mut up = std::mem::take(&mut self.uses);
        self.quantised.clear();
        self.matmul(x.rows(), &expert.gate, mid.start(t, width));
        self.matmul(x.rows(), &expert.up, &mut up[..t * width]);
        self.pool.run_rows(mid.rows_mut(), width, |t, mid, _| {
            router::swiglu(mid, &up[t * width..][..width], clamp, 1.0);
        });
        self.quantised.clear();
        self.matmul(mid.rows(), &expert.down, &mut up[..t * d]);
        self.pool.run_rows(out.rows_mut(), d, |t, out, _| {
            out.iter_mut().zip(&up[t * d..][..d]).for_each(|(out, y)| *out += y);
        });
        self.uses = up;
    }

    fn steer(&mut self, y: &mut Buf, rows: Range<usize>, direction: &[f32], scale: f32) {
        let width = y.width();
        let rows = &mut y.rows_mut()[rows.start * width..rows.end * width];
        self.pool.run_rows(rows, width, |_, y, _| norm::steer(y, direction, scale));
    }

    fn head_in(&mut self, streams: &Buf, head: &HyperHead, norm: &Vector, out: &mut Buf) {
        let d = self.shape.hidden;
        let (hc_eps, rms_eps) = (self.shape.hc_eps, self.shape.rms_eps);
        let outputs = self.batch.outputs();
        self.pool.run_rows(out.start(outputs.len(), d), d, |i, out, _| {
            let streams = streams.row(outputs[i]);
            let g = norm::inverse_rms(streams, rms_eps);
            let mut m = [0.0; Shape::STREAMS];
            products::float_mat_vec(Family::current(), head.fn_.format, &head.fn_.bytes, streams, &mut m);
            m.iter_mut().for_each(|m| *m *= g);
            let weights = hyper::head_weights(&m, head.scale.values[0], &head.base.values, hc_eps);
            hyper::mix_in(streams, &weights, out);
            norm::rms_norm_in_place(out, &norm.values, rms_eps);
        });
    }

    fn read_logits(&mut self, logits: &Buf, index: usize, out: &mut Vec<f32>) {
        out.extend_from_slice(logits.row(index));
    }
}
