//! The tensors of a synthetic model, in file order. Matrices are scaled by the root of their input width, so that
//! whatever the shape, an output is about as large as the input times the gain.

use ds4_gguf::Format;
use ds4_model::Shape;

use super::payload::{Content, Tensor};

/// Formats of the routed experts; everything else is the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Gate and up IQ2_XXS, down Q2_K.
    Q2,
    /// All Q4_K.
    Q4,
}

impl Recipe {
    /// Formats of gate and up, and of down.
    fn experts(self) -> (Format, Format) {
        match self {
            Recipe::Q2 => (Format::IQ2_XXS, Format::Q2_K),
            Recipe::Q4 => (Format::Q4_K, Format::Q4_K),
        }
    }

    /// `general.file_type` in ggml's numbering: what most weights are.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Recipe::Q2 => 19,
            Recipe::Q4 => 14,
        }
    }
}

/// Root mean square of the elements of random blocks whose scale is 1, within 15 percent. The numbers are part of what
/// makes files byte-equal.
fn block_rms(format: Format) -> f64 {
    match format {
        Format::IQ2_XXS => 62.0,
        Format::Q2_K => 13.9,
        Format::Q4_K => 258.3,
        _ => 73.6, // Q8_0
    }
}

/// Every tensor of a model of `shape`, without a drafting block.
pub fn tensors(shape: &Shape, recipe: Recipe) -> Vec<Tensor> {
    let mut list = List { shape, recipe, prefix: String::new(), tensors: Vec::new() };
    list.floats("token_embd.weight", &[shape.hidden, shape.vocab], 1.0);
    list.vector("output_norm.weight", shape.hidden, 0.1, 1.0);
    list.blocks("output.weight", Format::Q8_0, &[shape.hidden, shape.vocab], 3.0);
    list.matrix("output_hc_fn.weight", shape.streams_width(), Shape::STREAMS, 1.0);
    list.vector("output_hc_base.weight", Shape::STREAMS, 0.3, 0.0);
    list.vector("output_hc_scale.weight", 1, 0.01, 0.5);
    for (i, &ratio) in shape.ratios.iter().enumerate() {
        list.prefix = format!("blk.{i}.");
        list.hyper_connections();
        list.attention(ratio);
        list.feed_forward(i < shape.hash_layers);
    }
    list.tensors
}

struct List<'a> {
    shape: &'a Shape,
    recipe: Recipe,
    /// Before every name.
    prefix: String,
    tensors: Vec<Tensor>,
}

impl List<'_> {
    fn hyper_connections(&mut self) {
        for sub in ["attn", "ffn"] {
            self.matrix(&format!("hc_{sub}_fn.weight"), self.shape.streams_width(), Shape::mix_width(), 1.0);
            self.vector(&format!("hc_{sub}_scale.weight"), 3, 0.05, 0.5);
            self.vector(&format!("hc_{sub}_base.weight"), Shape::mix_width(), 0.5, 0.0);
        }
    }

    fn attention(&mut self, ratio: usize) {
        let s = self.shape;
        let out_width = s.out_groups * s.out_rank;
        self.vector("attn_norm.weight", s.hidden, 0.1, 1.0);
        self.vector("attn_sinks.weight", s.heads, 0.5, 0.0);
        self.q8_0("attn_q_a.weight", s.hidden, s.q_rank, 1.0);
        self.vector("attn_q_a_norm.weight", s.q_rank, 0.1, 1.0);
        self.q8_0("attn_q_b.weight", s.q_rank, s.heads * s.head_dim, 1.0);
        self.q8_0("attn_kv.weight", s.hidden, s.head_dim, 1.0);
        self.vector("attn_kv_a_norm.weight", s.head_dim, 0.1, 1.0);
        // Averaging over rows shrinks what attention gives; twice the gain makes up for it.
        self.q8_0("attn_output_a.weight", s.group_width(), out_width, 2.0);
        self.q8_0("attn_output_b.weight", out_width, s.hidden, 1.0);
        if ratio != 0 {
            self.compressor("attn_compressor", ratio, s.head_dim);
        }
        if ratio == 4 {
            self.matrix("indexer.attn_q_b.weight", s.q_rank, s.index_heads * s.index_dim, 1.0);
            self.matrix("indexer.proj.weight", s.hidden, s.index_heads, 1.0);
            self.compressor("indexer_compressor", ratio, s.index_dim);
        }
    }

    fn compressor(&mut self, name: &str, ratio: usize, dim: usize) {
        let width = if ratio == 4 { 2 * dim } else { dim };
        self.matrix(&format!("{name}_kv.weight"), self.shape.hidden, width, 1.0);
        self.matrix(&format!("{name}_gate.weight"), self.shape.hidden, width, 1.0);
        self.floats(&format!("{name}_ape.weight"), &[width, ratio], 0.5);
        self.vector(&format!("{name}_norm.weight"), dim, 0.1, 1.0);
    }

    fn feed_forward(&mut self, hash: bool) {
        let s = self.shape;
        self.vector("ffn_norm.weight", s.hidden, 0.1, 1.0);
        self.matrix("ffn_gate_inp.weight", s.hidden, s.experts, 1.5);
        if hash {
            let content = Content::Table { experts: s.experts as u64 };
            self.push("ffn_gate_tid2eid.weight", Format::I32, &[s.experts_used, s.vocab], content);
        } else {
            self.vector("exp_probs_b.bias", s.experts, 0.05, 0.0);
        }
        let (wide, narrow) = self.recipe.experts();
        self.blocks("ffn_gate_exps.weight", wide, &[s.hidden, s.expert_ff, s.experts], 1.5);
        self.blocks("ffn_up_exps.weight", wide, &[s.hidden, s.expert_ff, s.experts], 1.5);
        self.blocks("ffn_down_exps.weight", narrow, &[s.expert_ff, s.hidden, s.experts], 1.0);
        self.q8_0("ffn_gate_shexp.weight", s.hidden, s.expert_ff, 1.5);
        self.q8_0("ffn_up_shexp.weight", s.hidden, s.expert_ff, 1.5);
        self.q8_0("ffn_down_shexp.weight", s.expert_ff, s.hidden, 1.0);
    }

    /// F32.
    fn vector(&mut self, name: &str, len: usize, rms: f64, mean: f64) {
        self.push(name, Format::F32, &[len], Content::Floats { mean, rms });
    }

    /// An F16 matrix.
    fn matrix(&mut self, name: &str, cols: usize, rows: usize, gain: f64) {
        self.floats(name, &[cols, rows], gain / (cols as f64).sqrt());
    }

    /// F16 around zero.
    fn floats(&mut self, name: &str, dims: &[usize], rms: f64) {
        self.push(name, Format::F16, dims, Content::Floats { mean: 0.0, rms });
    }

    fn q8_0(&mut self, name: &str, cols: usize, rows: usize, gain: f64) {
        self.blocks(name, Format::Q8_0, &[cols, rows], gain);
    }

    fn blocks(&mut self, name: &str, format: Format, dims: &[usize], gain: f64) {
        let d = gain / (dims[0] as f64).sqrt() / block_rms(format);
        self.push(name, format, dims, Content::Blocks { d });
    }

    fn push(&mut self, name: &str, format: Format, dims: &[usize], content: Content) {
        let dims = dims.iter().map(|&d| d as u64).collect();
        self.tensors.push(Tensor { name: format!("{}{name}", self.prefix), dims, format, content });
    }
}
