//! The forward pass, once for every backend.

use crate::rope::RopeTable;
use crate::weights::{Attention, FeedForward, Layer, Weights};
use crate::{Ops, Series, Shape};

/// Working buffers of a step of at most T tokens, allocated once. Letters as in [`crate::weights`].
#[allow(missing_docs, reason = "the shapes say it")]
pub struct Scratch<B: Ops> {
    pub streams: B::Buf,        // [T, 4·D]
    pub x: B::Buf,              // [T, D] normed input of a sub-layer
    pub mix: B::Buf,            // [T, 20]
    pub y: B::Buf,              // [T, D] output of a sub-layer
    pub q_low: B::Buf,          // [T, q_rank]
    pub q: B::Buf,              // [T, H·d]
    pub kv: B::Buf,             // [T, d]
    pub heads: B::Buf,          // [T, H·d]
    pub low: B::Buf,            // [T, G·out_rank]
    pub compress_kv: B::Buf,    // [T, 2·d]
    pub compress_gate: B::Buf,  // [T, 2·d]
    pub index_kv: B::Buf,       // [T, 2·index_dim]
    pub index_gate: B::Buf,     // [T, 2·index_dim]
    pub index_q: B::Buf,        // [T, index_heads·index_dim]
    pub index_weights: B::Buf,  // [T, index_heads]
    pub selected: B::Picks,     // [T, top_k]
    pub chosen: B::Picks,       // [T, used]
    pub chosen_weights: B::Buf, // [T, used]
    pub expert_mid: B::Buf,     // [T, used·F]
    pub shared_mid: B::Buf,     // [T, F]
    pub head: B::Buf,           // [outputs, D]
    pub logits: B::Buf,         // [outputs, vocab]
}

impl<B: Ops> Scratch<B> {
    /// Buffers for steps of up to `tokens` tokens of which up to `outputs` get logits.
    pub fn new(ops: &mut B, shape: &Shape, tokens: usize, outputs: usize) -> Self {
        let (t, d) = (tokens, shape.hidden);
        Self {
            streams: ops.buffer(t, shape.streams_width()),
            x: ops.buffer(t, d),
            mix: ops.buffer(t, Shape::mix_width() - Shape::STREAMS),
            y: ops.buffer(t, d),
            q_low: ops.buffer(t, shape.q_rank),
            q: ops.buffer(t, shape.heads * shape.head_dim),
            kv: ops.buffer(t, shape.head_dim),
            heads: ops.buffer(t, shape.heads * shape.head_dim),
            low: ops.buffer(t, shape.out_groups * shape.out_rank),
            compress_kv: ops.buffer(t, 2 * shape.head_dim),
            compress_gate: ops.buffer(t, 2 * shape.head_dim),
            index_kv: ops.buffer(t, 2 * shape.index_dim),
            index_gate: ops.buffer(t, 2 * shape.index_dim),
            index_q: ops.buffer(t, shape.index_heads * shape.index_dim),
            index_weights: ops.buffer(t, shape.index_heads),
            selected: ops.picks(t, shape.index_top_k),
            chosen: ops.picks(t, shape.experts_used),
            chosen_weights: ops.buffer(t, shape.experts_used),
            expert_mid: ops.buffer(t, shape.experts_used * shape.expert_ff),
            shared_mid: ops.buffer(t, shape.expert_ff),
            head: ops.buffer(outputs, d),
            logits: ops.buffer(outputs, shape.vocab),
        }
    }

    /// Bytes that [`Scratch::new`] asks for.
    pub fn bytes(shape: &Shape, tokens: usize, outputs: usize) -> usize {
        let per_token = shape.streams_width()
            + 2 * shape.hidden
            + (Shape::mix_width() - Shape::STREAMS)
            + shape.q_rank
            + 2 * shape.heads * shape.head_dim
            + 5 * shape.head_dim
            + shape.out_groups * shape.out_rank
            + 4 * shape.index_dim
            + shape.index_heads * (shape.index_dim + 1)
            + shape.index_top_k
            + shape.experts_used * (2 + shape.expert_ff)
            + shape.expert_ff;
        4 * (tokens * per_token + outputs * (shape.hidden + shape.vocab))
    }
}

/// What a [`Tap`] is shown; it may read buffers through the backend, and change outputs (steering).
pub enum Seen<'a, B: Ops> {
    /// Normed input of the attention sub-layer, `[T, D]`.
    AttentionIn(&'a mut B::Buf),
    /// Rows the indexer selected, `[T, top_k]`.
    Selected(&'a B::Picks),
    /// Output of the attention sub-layer, `[T, D]`.
    AttentionOut(&'a mut B::Buf),
    /// Normed input of the feed-forward sub-layer, `[T, D]`.
    FeedForwardIn(&'a mut B::Buf),
    /// Experts chosen `[T, used]` and their weights.
    Chosen(&'a B::Picks, &'a B::Buf),
    /// Weighted inner values of the chosen experts, `[T, used·F]`.
    ExpertMid(&'a mut B::Buf),
    /// Output of the feed-forward sub-layer, `[T, D]`.
    FeedForwardOut(&'a mut B::Buf),
    /// The streams after the layer, `[T, 4·D]`.
    Streams(&'a mut B::Buf),
}

/// Looks into the pass, for steering, capture and tests.
pub trait Tap<B: Ops> {
    /// Called at every point of every layer.
    fn see(&mut self, ops: &mut B, layer: usize, seen: Seen<'_, B>);
}

/// Looks at nothing.
pub struct NoTap;

impl<B: Ops> Tap<B> for NoTap {
    fn see(&mut self, _: &mut B, _: usize, _: Seen<'_, B>) {}
}

/// Runs the batch that [`Ops::begin`] took over and leaves the logits of its outputs in `s.logits`.
pub fn forward<B: Ops>(
    ops: &mut B,
    weights: &Weights,
    s: &mut Scratch<B>,
    cache: &mut B::Cache,
    tap: &mut impl Tap<B>,
) {
    ops.embed(&weights.embedding, &mut s.streams);
    for (i, layer) in weights.layers.iter().enumerate() {
        decoder_layer(ops, i, layer, weights.shape.ratios[i], s, cache, tap);
    }
    ops.head_in(&s.streams, &weights.head, &weights.output_norm, &mut s.head);
    ops.project(&s.head, &mut [(&weights.output, &mut s.logits)]);
}

/// One layer: each sub-layer reads a mix of the four streams and is mixed back into them.
fn decoder_layer<B: Ops>(
    ops: &mut B,
    i: usize,
    layer: &Layer,
    ratio: usize,
    s: &mut Scratch<B>,
    cache: &mut B::Cache,
    tap: &mut impl Tap<B>,
) {
    ops.hyper_in(&s.streams, &layer.hc_attention, &layer.attention.norm, &mut s.x, &mut s.mix);
    attention(ops, i, &layer.attention, ratio, s, cache, tap);
    ops.hyper_out(&s.y, &s.mix, &mut s.streams);

    ops.hyper_in(&s.streams, &layer.hc_feed_forward, &layer.feed_forward.norm, &mut s.x, &mut s.mix);
    feed_forward(ops, i, &layer.feed_forward, s, tap);
    ops.hyper_out(&s.y, &s.mix, &mut s.streams);

    tap.see(ops, i, Seen::Streams(&mut s.streams));
}

/// The attention sub-layer, `s.x` to `s.y`: window rows, and compressed rows where the layer has them.
pub fn attention<B: Ops>(
    ops: &mut B,
    i: usize,
    w: &Attention,
    ratio: usize,
    s: &mut Scratch<B>,
    cache: &mut B::Cache,
    tap: &mut impl Tap<B>,
) {
    tap.see(ops, i, Seen::AttentionIn(&mut s.x));
    let table = if ratio == 0 { RopeTable::Main } else { RopeTable::Compressed };

    project_input(ops, w, s);
    ops.norm(&mut s.q_low, &w.q_a_norm);
    ops.store_window(i, &s.kv, &w.kv_norm, table, cache);
    if let Some(c) = &w.compressor {
        ops.compress(i, Series::Attention, &s.compress_kv, &s.compress_gate, c, cache);
    }
    let mut picks = None;
    if let Some(index) = &w.indexer {
        ops.compress(i, Series::Index, &s.index_kv, &s.index_gate, &index.compressor, cache);
        ops.project(&s.q_low, &mut [(&w.q_b, &mut s.q), (&index.q, &mut s.index_q)]);
        ops.select_rows(i, &s.index_q, &s.index_weights, cache, &mut s.selected);
        tap.see(ops, i, Seen::Selected(&s.selected));
        picks = Some(&s.selected);
    } else {
        ops.project(&s.q_low, &mut [(&w.q_b, &mut s.q)]);
    }
    ops.queries(&mut s.q, table);
    ops.attend(i, &s.q, &w.sinks, table, cache, picks, &mut s.heads);

    // The value rows carry the rotation of their positions; attend has turned the heads back.
    ops.project_groups(&s.heads, &w.out_a, &mut s.low);
    ops.project(&s.low, &mut [(&w.out_b, &mut s.y)]);
    tap.see(ops, i, Seen::AttentionOut(&mut s.y));
}

/// Everything that reads the sub-layer's input, in one operation.
fn project_input<B: Ops>(ops: &mut B, w: &Attention, s: &mut Scratch<B>) {
    let mut outs = vec![(&w.q_a, &mut s.q_low), (&w.kv, &mut s.kv)];
    if let Some(c) = &w.compressor {
        outs.push((&c.kv, &mut s.compress_kv));
        outs.push((&c.gate, &mut s.compress_gate));
    }
    if let Some(index) = &w.indexer {
        outs.push((&index.compressor.kv, &mut s.index_kv));
        outs.push((&index.compressor.gate, &mut s.index_gate));
        outs.push((&index.weights, &mut s.index_weights));
    }
    ops.project(&s.x, &mut outs);
}

/// The feed-forward sub-layer, `s.x` to `s.y`: the chosen experts and the shared one.
pub fn feed_forward<B: Ops>(ops: &mut B, i: usize, w: &FeedForward, s: &mut Scratch<B>, tap: &mut impl Tap<B>) {
    tap.see(ops, i, Seen::FeedForwardIn(&mut s.x));
    ops.route(&s.x, &w.router, &mut s.chosen, &mut s.chosen_weights);
    tap.see(ops, i, Seen::Chosen(&s.chosen, &s.chosen_weights));
    ops.experts_in(&s.x, &w.experts, w.clamp, &s.chosen, &s.chosen_weights, &mut s.expert_mid);
    tap.see(ops, i, Seen::ExpertMid(&mut s.expert_mid));
    ops.experts_out(&s.expert_mid, &w.experts, &s.chosen, &mut s.y);
    ops.shared_expert(&s.x, &w.shared, w.clamp, &mut s.shared_mid, &mut s.y);
    tap.see(ops, i, Seen::FeedForwardOut(&mut s.y));
}
