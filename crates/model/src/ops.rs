//! The operations a backend provides.

use std::ops::Range;

use crate::rope::RopeTable;
use crate::weights::{Compressor, Experts, HyperConnection, HyperHead, Matrix, Router, SharedExpert, Vector};
use crate::{Batch, CacheLayout};

/// Which rows a compressor makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Key/value rows for attention.
    Attention,
    /// Key rows for the indexer.
    Index,
}

/// A backend: about twenty operations, each as coarse as a fused kernel wants to be, over opaque buffers.
///
/// Between [`Ops::begin`] and [`Ops::read_logits`] nothing returns to the host and no operation depends on a value the
/// host would have to look at: compressor steps are always issued and masked inside, routing and row selection stay in
/// the backend. So a step can be recorded once and replayed. A buffer's live rows are the batch's tokens, or its
/// outputs after [`Ops::head_in`]. `docs/numerics.md` defines every result.
///
/// The routed experts are touched by [`Ops::experts_in`] and [`Ops::experts_out`] only, which see activations, choices
/// and nothing else: a backend may hold another one and pass these two on to it.
pub trait Ops {
    /// f32 activations, `[rows, width]`.
    type Buf;
    /// Numbers chosen by the backend, `[rows, width]`: experts, or compressed rows.
    type Picks;
    /// What sequences leave behind, laid out by a [`CacheLayout`].
    type Cache;

    // ---- memory; not part of a step ----

    /// A zeroed buffer.
    fn buffer(&mut self, rows: usize, width: usize) -> Self::Buf;
    /// A buffer for choices.
    fn picks(&mut self, rows: usize, width: usize) -> Self::Picks;
    /// A cache; its rows are meaningless until written.
    fn cache(&mut self, layout: &CacheLayout) -> Self::Cache;
    /// Fills the first rows of a buffer, which become its live rows.
    fn write(&mut self, buf: &mut Self::Buf, values: &[f32]);
    /// The live rows of a buffer, for taps and tests.
    fn read(&mut self, buf: &Self::Buf) -> Vec<f32>;
    /// The live rows of a buffer of choices; unused places hold `u32::MAX`.
    fn read_picks(&mut self, picks: &Self::Picks) -> Vec<u32>;

    /// Appends what the sequence in `slot` needs to go on after its first `len` tokens, of which it has taken at most
    /// [`crate::ROLLBACK`] more: windows, compressor states, and the rows of the page under way;
    /// [`CacheLayout::point_bytes`] of them. With the pages before, they are a resume point.
    fn export_point(&mut self, cache: &Self::Cache, slot: usize, len: usize, pages: &[u32], out: &mut Vec<u8>);
    /// Puts it back, into any slot and with a page of its own for the one under way.
    fn import_point(&mut self, cache: &mut Self::Cache, slot: usize, len: usize, pages: &[u32], bytes: &[u8]);
    /// Appends the rows of a full page, [`CacheLayout::page_bytes`] of them.
    fn export_page(&mut self, cache: &Self::Cache, page: u32, out: &mut Vec<u8>);
    /// Puts them back, into any page.
    fn import_page(&mut self, cache: &mut Self::Cache, page: u32, bytes: &[u8]);
    /// Compressed rows of a sequence with this page table, decoded, `[rows, width]`; for tests.
    fn read_rows(
        &mut self,
        cache: &Self::Cache,
        layer: usize,
        series: Series,
        pages: &[u32],
        rows: Range<usize>,
    ) -> Vec<f32>;

    // ---- a step ----

    /// Takes over the tokens, positions and page tables of a step.
    fn begin(&mut self, batch: &Batch);

    /// Copies each token's embedding into its four streams `[T, 4·D]`.
    fn embed(&mut self, table: &Matrix, streams: &mut Self::Buf);

    /// Mixes the streams into a sub-layer's normed input `x [T, D]` and keeps the coefficients that mix its output
    /// back, `mix [T, 20]`.
    fn hyper_in(
        &mut self,
        streams: &Self::Buf,
        hc: &HyperConnection,
        norm: &Vector,
        x: &mut Self::Buf,
        mix: &mut Self::Buf,
    );

    /// Mixes a sub-layer's output `y [T, D]` into the streams.
    fn hyper_out(&mut self, y: &Self::Buf, mix: &Self::Buf, streams: &mut Self::Buf);

    /// `out = W x` for every pair; activations are quantised once for all of them.
    fn project(&mut self, x: &Self::Buf, outs: &mut [(&Matrix, &mut Self::Buf)]);

    /// `x` holds parts as wide as `w` side by side; part g meets row block g of `w`. `[T, G·n] -> [T, G·m]`
    fn project_groups(&mut self, x: &Self::Buf, w: &Matrix, out: &mut Self::Buf);

    /// RMS norm in place.
    fn norm(&mut self, x: &mut Self::Buf, weight: &Vector);

    /// Per head: RMS norm without weight, then rotation. `[T, H·d]` in place.
    fn queries(&mut self, q: &mut Self::Buf, table: RopeTable);

    /// Norm, rotation, rounding; stores each token's key/value row in the window of `layer`.
    fn store_window(&mut self, layer: usize, kv: &Self::Buf, norm: &Vector, table: RopeTable, cache: &mut Self::Cache);

    /// Advances the compressor of `layer` by each token and stores the rows that this completes.
    /// `kv`, `gate`: `[T, c·width]`.
    fn compress(
        &mut self,
        layer: usize,
        series: Series,
        kv: &Self::Buf,
        gate: &Self::Buf,
        weights: &Compressor,
        cache: &mut Self::Cache,
    );

    /// Chooses for each token the best compressed rows, ascending; all visible ones while these are no more than
    /// top-k. `q [T, heads·dim]` and `weights [T, heads]` come straight from their projections.
    fn select_rows(
        &mut self,
        layer: usize,
        q: &Self::Buf,
        weights: &Self::Buf,
        cache: &Self::Cache,
        picks: &mut Self::Picks,
    );

    /// Attention of each token over its window and its compressed rows (`picks`, or all visible ones), and the inverse
    /// rotation. `[T, H·d] -> [T, H·d]`
    #[allow(clippy::too_many_arguments, reason = "one fused kernel")]
    fn attend(
        &mut self,
        layer: usize,
        q: &Self::Buf,
        sinks: &Vector,
        table: RopeTable,
        cache: &Self::Cache,
        picks: Option<&Self::Picks>,
        out: &mut Self::Buf,
    );

    /// Chooses each token's experts `[T, used]` and their weights `[T, used]`.
    fn route(&mut self, x: &Self::Buf, router: &Router, picks: &mut Self::Picks, weights: &mut Self::Buf);

    /// The weighted inner values of every chosen expert. `mid [T, used·F]`
    fn experts_in(
        &mut self,
        x: &Self::Buf,
        experts: &Experts,
        clamp: f32,
        picks: &Self::Picks,
        weights: &Self::Buf,
        mid: &mut Self::Buf,
    );

    /// Sum of the chosen experts' outputs in slot order. `[T, used·F] -> [T, D]`
    fn experts_out(&mut self, mid: &Self::Buf, experts: &Experts, picks: &Self::Picks, out: &mut Self::Buf);

    /// Adds the shared expert to `out [T, D]`; `mid [T, F]` is scratch.
    fn shared_expert(
        &mut self,
        x: &Self::Buf,
        expert: &SharedExpert,
        clamp: f32,
        mid: &mut Self::Buf,
        out: &mut Self::Buf,
    );

    /// Takes `scale` times the projection on the unit vector `direction [D]` out of these rows of `y`.
    fn steer(&mut self, y: &mut Self::Buf, rows: Range<usize>, direction: &[f32], scale: f32);

    /// Mixes the streams of the batch's outputs into the normed input of the output matrix. `[T, 4·D] -> [outputs, D]`
    fn head_in(&mut self, streams: &Self::Buf, head: &HyperHead, norm: &Vector, out: &mut Self::Buf);

    /// The logits of the batch's output `index`, appended to `out`. Waits for the step.
    fn read_logits(&mut self, logits: &Self::Buf, index: usize, out: &mut Vec<f32>);
}
