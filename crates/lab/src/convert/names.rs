//! Where each GGUF tensor comes from, and its shape.

use ds4_model::Shape;

use super::source::Source;

/// Whose names the checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `model.layers.0.self_attn.q_a_proj.weight`
    Transformers,
    /// `layers.0.attn.wq_a.weight`
    Official,
}

impl Scheme {
    /// The scheme of a checkpoint, by its token embedding.
    pub(super) fn of(source: &Source) -> Option<Self> {
        match (source.lists("model.embed_tokens.weight"), source.lists("embed.weight")) {
            (true, _) => Some(Self::Transformers),
            (false, true) => Some(Self::Official),
            (false, false) => None,
        }
    }
}

/// Tensors that a recipe treats alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Token embedding.
    Embedding,
    /// Output matrix.
    Output,
    /// Query, key/value and output projections; projections of the drafting block.
    Attention,
    /// Compressor and indexer matrices.
    Compressor,
    /// Shared experts.
    Shared,
    /// Routed experts.
    Experts,
    /// Router, hyper-connections, position biases.
    Small,
    /// Norms, biases, sinks.
    Vector,
    /// Experts by token id.
    Table,
}

/// How a tensor is put together.
pub(super) enum Gather {
    /// One tensor as it is.
    One(String),
    /// One matrix per expert, whose number is between these two parts of its name.
    Stack(String, &'static str),
    /// The lower or upper half of the rows of each matrix in a stack.
    Half(String, bool),
}

/// One GGUF tensor.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) gather: Gather,
    /// Shape in the file: row length first.
    pub(super) dims: Vec<usize>,
}

/// All tensors of the model.
pub(super) fn model(shape: &Shape, scheme: Scheme) -> Vec<Entry> {
    let transformers = "model.".into();
    let mut list =
        List { shape, scheme, official: String::new(), transformers, gguf: String::new(), entries: Vec::new() };
    let (d, vocab) = (shape.hidden, shape.vocab);
    list.one("token_embd.weight", Family::Embedding, &[d, vocab], "embed.weight", "embed_tokens.weight");
    list.one("output_norm.weight", Family::Vector, &[d], "norm.weight", "norm.weight");
    list.head("output_hc", "hc_head.hc");
    for i in 0..shape.layers() {
        list.gguf = format!("blk.{i}.");
        list.official = format!("layers.{i}.");
        list.transformers = format!("model.layers.{i}.");
        list.layer(shape.ratios[i], i < shape.hash_layers);
    }
    (list.gguf, list.official, list.transformers) = Default::default();
    list.one("output.weight", Family::Output, &[d, vocab], "head.weight", "lm_head.weight");
    list.entries
}

/// All tensors of the drafting block, which every checkpoint names as the official code does.
pub(super) fn mtp(shape: &Shape) -> Vec<Entry> {
    let prefix = "mtp.0.".to_string();
    let mut list = List {
        shape,
        scheme: Scheme::Official,
        official: prefix.clone(),
        transformers: String::new(),
        gguf: prefix,
        entries: Vec::new(),
    };
    for name in ["e_proj.weight", "h_proj.weight"] {
        list.one(name, Family::Attention, &[shape.hidden; 2], name, "");
    }
    for name in ["enorm.weight", "hnorm.weight", "norm.weight"] {
        list.one(name, Family::Vector, &[shape.hidden], name, "");
    }
    list.head("hc_head", "");
    list.layer(0, false);
    list.entries
}

struct List<'a> {
    shape: &'a Shape,
    scheme: Scheme,
    /// Prefixes of the three namings.
    gguf: String,
    official: String,
    transformers: String,
    entries: Vec<Entry>,
}

impl List<'_> {
    fn one(&mut self, gguf: &str, family: Family, dims: &[usize], official: &str, transformers: &str) {
        let name = self.source(official, transformers);
        self.push(gguf, family, dims, Gather::One(name));
    }

    fn push(&mut self, gguf: &str, family: Family, dims: &[usize], gather: Gather) {
        let name = format!("{}{gguf}", self.gguf);
        self.entries.push(Entry { name, family, gather, dims: dims.to_vec() });
    }

    fn source(&self, official: &str, transformers: &str) -> String {
        match self.scheme {
            Scheme::Official => format!("{}{official}", self.official),
            Scheme::Transformers => format!("{}{transformers}", self.transformers),
        }
    }

    /// Function, base and scale of a hyper-connection with `width` values per token and `scales` scales.
    fn hyper_connection(&mut self, gguf: &str, official: &str, transformers: &str, width: usize, scales: usize) {
        for (part, family, dims) in [
            ("fn", Family::Small, &[self.shape.streams_width(), width][..]),
            ("base", Family::Vector, &[width]),
            ("scale", Family::Vector, &[scales]),
        ] {
            let (official, transformers) = (format!("{official}_{part}"), format!("{transformers}{part}"));
            self.one(&format!("{gguf}_{part}.weight"), family, dims, &official, &transformers);
        }
    }

    fn head(&mut self, gguf: &str, transformers: &str) {
        self.hyper_connection(gguf, "hc_head", &format!("{transformers}_"), Shape::STREAMS, 1);
    }

    fn layer(&mut self, ratio: usize, hash: bool) {
        let d = self.shape.hidden;
        for (sub, norm) in [("attn", "input_layernorm"), ("ffn", "post_attention_layernorm")] {
            let name = format!("hc_{sub}");
            self.hyper_connection(&name, &name, &format!("{sub}_hc."), Shape::mix_width(), 3);
            let name = format!("{sub}_norm.weight");
            self.one(&name, Family::Vector, &[d], &name, &format!("{norm}.weight"));
        }
        self.attention();
        if ratio != 0 {
            let dim = self.shape.head_dim;
            self.compressor("attn_compressor", ratio, dim, "attn.compressor", "self_attn.compressor");
        }
        if ratio == 4 {
            self.indexer();
        }
        self.feed_forward(hash);
    }

    fn attention(&mut self) {
        use Family::*;
        let s = self.shape;
        let out = s.out_groups * s.out_rank;
        for (gguf, family, dims, official, transformers) in [
            ("attn_q_a", Attention, &[s.hidden, s.q_rank][..], "wq_a", "q_a_proj"),
            ("attn_q_a_norm", Vector, &[s.q_rank], "q_norm", "q_a_norm"),
            ("attn_q_b", Attention, &[s.q_rank, s.heads * s.head_dim], "wq_b", "q_b_proj"),
            ("attn_kv", Attention, &[s.hidden, s.head_dim], "wkv", "kv_proj"),
            ("attn_kv_a_norm", Vector, &[s.head_dim], "kv_norm", "kv_norm"),
            ("attn_output_a", Attention, &[s.group_width(), out], "wo_a", "o_a_proj"),
            ("attn_output_b", Attention, &[out, s.hidden], "wo_b", "o_b_proj"),
        ] {
            let names = (format!("attn.{official}.weight"), format!("self_attn.{transformers}.weight"));
            self.one(&format!("{gguf}.weight"), family, dims, &names.0, &names.1);
        }
        self.one("attn_sinks.weight", Vector, &[s.heads], "attn.attn_sink", "self_attn.sinks");
    }

    fn compressor(&mut self, gguf: &str, ratio: usize, dim: usize, official: &str, transformers: &str) {
        let d = self.shape.hidden;
        let width = if ratio == 4 { 2 * dim } else { dim };
        for (part, family, dims, o, t) in [
            ("kv", Family::Compressor, &[d, width][..], "wkv.weight", "kv_proj.weight"),
            ("gate", Family::Compressor, &[d, width], "wgate.weight", "gate_proj.weight"),
            ("ape", Family::Small, &[width, ratio], "ape", "position_bias"),
            ("norm", Family::Vector, &[dim], "norm.weight", "kv_norm.weight"),
        ] {
            let name = format!("{gguf}_{part}.weight");
            self.one(&name, family, dims, &format!("{official}.{o}"), &format!("{transformers}.{t}"));
        }
    }

    fn indexer(&mut self) {
        let s = self.shape;
        let (official, transformers) = ("attn.indexer", "self_attn.compressor.indexer");
        for (gguf, dims, o, t) in [
            ("attn_q_b", [s.q_rank, s.index_heads * s.index_dim], "wq_b", "q_b_proj"),
            ("proj", [s.hidden, s.index_heads], "weights_proj", "scorer.weights_proj"),
        ] {
            let names = (format!("{official}.{o}.weight"), format!("{transformers}.{t}.weight"));
            self.one(&format!("indexer.{gguf}.weight"), Family::Compressor, &dims, &names.0, &names.1);
        }
        self.compressor("indexer_compressor", 4, s.index_dim, &format!("{official}.compressor"), transformers);
    }

    fn feed_forward(&mut self, hash: bool) {
        use Family::*;
        let s = self.shape;
        self.one("ffn_gate_inp.weight", Small, &[s.hidden, s.experts], "ffn.gate.weight", "mlp.gate.weight");
        if hash {
            let dims = [s.experts_used, s.vocab];
            self.one("ffn_gate_tid2eid.weight", Table, &dims, "ffn.gate.tid2eid", "mlp.gate.tid2eid");
        } else {
            self.one("exp_probs_b.bias", Vector, &[s.experts], "ffn.gate.bias", "mlp.gate.e_score_correction_bias");
        }
        for (gguf, w, suffix) in
            [("gate", "w1", ".w1.weight"), ("up", "w3", ".w3.weight"), ("down", "w2", ".w2.weight")]
        {
            let (cols, rows) = if gguf == "down" { (s.expert_ff, s.hidden) } else { (s.hidden, s.expert_ff) };
            let gather = match (self.scheme, gguf) {
                (Scheme::Official, _) => Gather::Stack(format!("{}ffn.experts.", self.official), suffix),
                (Scheme::Transformers, "down") => Gather::One(self.source("", "mlp.experts.down_proj")),
                (Scheme::Transformers, _) => Gather::Half(self.source("", "mlp.experts.gate_up_proj"), gguf == "up"),
            };
            self.push(&format!("ffn_{gguf}_exps.weight"), Experts, &[cols, rows, s.experts], gather);
            let names = (format!("ffn.shared_experts.{w}.weight"), format!("mlp.shared_experts.{gguf}_proj.weight"));
            self.one(&format!("ffn_{gguf}_shexp.weight"), Shared, &[cols, rows], &names.0, &names.1);
        }
    }
}
