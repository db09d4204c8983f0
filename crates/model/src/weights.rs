//! The weights as typed views into the file, each with its shape: matrices are `[rows, cols]`, `y = W x`.
//!
//! D hidden, H heads, d head width, r rotary channels, G output groups, E experts, F expert width, S = 4 streams.

use std::sync::Arc;

use ds4_gguf::{Bytes, Format};

use crate::Shape;

/// A matrix, or a stack of equally shaped matrices (experts), in the file's own blocks.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Name in the file.
    pub name: Arc<str>,
    /// Element format.
    pub format: Format,
    /// Input width.
    pub cols: usize,
    /// Output width.
    pub rows: usize,
    /// Matrices in the stack; 1 unless these are experts.
    pub count: usize,
    /// `[count][rows][cols]` in blocks of `format`.
    pub bytes: Bytes,
}

impl Matrix {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.cols / self.format.block_len() * self.format.block_bytes()
    }

    /// The bytes of matrix `index` of the stack.
    pub fn matrix(&self, index: usize) -> &[u8] {
        let len = self.rows * self.row_bytes();
        &self.bytes[index * len..(index + 1) * len]
    }

    /// The bytes of one row of the first matrix.
    pub fn row(&self, row: usize) -> &[u8] {
        let len = self.row_bytes();
        &self.bytes[row * len..(row + 1) * len]
    }
}

/// A small tensor, widened to f32 when it was loaded; all values are finite.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Name in the file.
    pub name: Arc<str>,
    /// Values.
    pub values: Arc<[f32]>,
}

/// Mixes the four streams into a sub-layer's input and its output back into them.
#[derive(Clone, Debug)]
pub struct HyperConnection {
    /// `[24, S·D]`: 4 in, 4 out, 4 x 4 mixing; F32, F16 or BF16
    pub fn_: Matrix,
    /// `[3]`
    pub scale: Vector,
    /// `[24]`
    pub base: Vector,
}

/// Mixes the four streams into the input of the output matrix.
#[derive(Clone, Debug)]
pub struct HyperHead {
    /// `[4, S·D]`
    pub fn_: Matrix,
    /// `[1]`
    pub scale: Vector,
    /// `[4]`
    pub base: Vector,
}

/// Pools the keys of a window of tokens into one row.
#[derive(Clone, Debug)]
pub struct Compressor {
    /// `[c·d, D]`, c = 2 at ratio 4 (look-back half, current half), else 1
    pub kv: Matrix,
    /// `[c·d, D]`
    pub gate: Matrix,
    /// `[ratio][c·d]`: added to the gate by place in the window
    pub ape: Vector,
    /// `[d]`
    pub norm: Vector,
}

/// Selects compressed rows (ratio-4 layers).
#[derive(Clone, Debug)]
pub struct Indexer {
    /// `[heads·dim, q_rank]`
    pub q: Matrix,
    /// `[heads, D]`: weight of each head
    pub weights: Matrix,
    /// Makes the indexer's own rows; widths as [`Compressor`] with the indexer's dim.
    pub compressor: Compressor,
}

/// The attention sub-layer.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `[D]`
    pub norm: Vector,
    /// `[q_rank, D]`
    pub q_a: Matrix,
    /// `[q_rank]`
    pub q_a_norm: Vector,
    /// `[H·d, q_rank]`
    pub q_b: Matrix,
    /// `[d, D]`: the one key/value head
    pub kv: Matrix,
    /// `[d]`
    pub kv_norm: Vector,
    /// `[H]`: logit of attending to nothing
    pub sinks: Vector,
    /// `[G·out_rank, H·d/G]`: row block g reads only group g
    pub out_a: Matrix,
    /// `[D, G·out_rank]`
    pub out_b: Matrix,
    /// Ratio-4 and ratio-128 layers.
    pub compressor: Option<Compressor>,
    /// Ratio-4 layers.
    pub indexer: Option<Indexer>,
}

/// How a layer chooses its experts.
#[derive(Clone, Debug)]
pub enum Selection {
    /// `[vocab][experts_used]` expert numbers by token id, little-endian i32, all in range
    Hash(Bytes),
    /// The best scores plus this bias `[E]`; zeros when the file has none.
    Score(Vector),
}

/// Scores experts and chooses some.
#[derive(Clone, Debug)]
pub struct Router {
    /// `[E, D]`; F32, F16 or BF16
    pub gate: Matrix,
    /// Who is chosen.
    pub selection: Selection,
}

/// The routed experts of a layer; gate and up share a format.
#[derive(Clone, Debug)]
pub struct Experts {
    /// `[E][F, D]`
    pub gate: Matrix,
    /// `[E][F, D]`
    pub up: Matrix,
    /// `[E][D, F]`
    pub down: Matrix,
}

/// The expert that every token uses.
#[derive(Clone, Debug)]
pub struct SharedExpert {
    /// `[F, D]`
    pub gate: Matrix,
    /// `[F, D]`
    pub up: Matrix,
    /// `[D, F]`
    pub down: Matrix,
}

/// The mixture-of-experts sub-layer.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// `[D]`
    pub norm: Vector,
    /// Chooses experts.
    pub router: Router,
    /// Routed experts.
    pub experts: Experts,
    /// The shared expert.
    pub shared: SharedExpert,
    /// Bound of gate and up values.
    pub clamp: f32,
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Around the attention sub-layer.
    pub hc_attention: HyperConnection,
    /// Attention.
    pub attention: Attention,
    /// Around the feed-forward sub-layer.
    pub hc_feed_forward: HyperConnection,
    /// Experts.
    pub feed_forward: FeedForward,
}

/// The multi-token-prediction block: drafts a token from the streams of the one before.
#[derive(Clone, Debug)]
pub struct Mtp {
    /// `[D, D]`, reads the normed embedding
    pub e_proj: Matrix,
    /// `[D, D]`, reads each normed stream
    pub h_proj: Matrix,
    /// `[D]`
    pub e_norm: Vector,
    /// `[D]`
    pub h_norm: Vector,
    /// A window-only layer.
    pub layer: Layer,
    /// Its own output mix.
    pub head: HyperHead,
    /// `[D]`
    pub norm: Vector,
}

/// All weights of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Sizes and constants.
    pub shape: Shape,
    /// `[vocab, D]`
    pub embedding: Matrix,
    /// Decoder layers.
    pub layers: Vec<Layer>,
    /// Output mix.
    pub head: HyperHead,
    /// `[D]`
    pub output_norm: Vector,
    /// `[vocab, D]`
    pub output: Matrix,
    /// Drafting block, when the file holds one. Recognised and checked; drafting comes with speculation.
    pub mtp: Option<Mtp>,
}

impl Weights {
    /// Bytes of the tensors that were widened and live outside the file.
    pub fn vector_bytes(&self) -> usize {
        let shape = &self.shape;
        let per_layer = 2 * shape.hidden + 2 * Shape::mix_width() + shape.heads + shape.experts;
        let compressors = self.layers.iter().flat_map(|l| {
            let index = l.attention.indexer.as_ref().map(|i| &i.compressor);
            l.attention.compressor.iter().chain(index)
        });
        let compressors: usize = compressors.map(|c| c.ape.values.len() + c.norm.values.len()).sum();
        4 * (self.layers.len() * (per_layer + shape.q_rank + shape.head_dim) + compressors)
    }

    /// The matrices that decoding a token meets, each with how many of its stack: everything but the embedding and the
    /// experts that the token does not use.
    pub fn used_by_a_token(&self) -> Vec<(&Matrix, usize)> {
        let mut used = Vec::new();
        for layer in &self.layers {
            let (a, f) = (&layer.attention, &layer.feed_forward);
            used.extend([&layer.hc_attention.fn_, &layer.hc_feed_forward.fn_].map(|m| (m, 1)));
            used.extend([&a.q_a, &a.q_b, &a.kv, &a.out_a, &a.out_b].map(|m| (m, 1)));
            for c in a.compressor.iter().chain(a.indexer.as_ref().map(|i| &i.compressor)) {
                used.extend([(&c.kv, 1), (&c.gate, 1)]);
            }
            used.extend(a.indexer.iter().flat_map(|i| [(&i.q, 1), (&i.weights, 1)]));
            used.extend([&f.router.gate, &f.shared.gate, &f.shared.up, &f.shared.down].map(|m| (m, 1)));
            used.extend([&f.experts.gate, &f.experts.up, &f.experts.down].map(|m| (m, self.shape.experts_used)));
        }
        used.extend([(&self.head.fn_, 1), (&self.output, 1)]);
        used
    }

    /// Bytes of matrices that one token reads.
    pub fn bytes_per_token(&self) -> usize {
        self.used_by_a_token().iter().map(|(m, used)| m.bytes.len() / m.count * used).sum()
    }
}
