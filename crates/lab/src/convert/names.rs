//! Where each GGUF tensor comes from.

use ds4_model::Shape;

use super::Error;
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
    /// The scheme of a checkpoint.
    pub(super) fn of(source: &Source) -> Result<Self, Error> {
        if source.tensor("model.embed_tokens.weight").is_ok() {
            return Ok(Self::Transformers);
        }
        match source.tensor("embed.weight") {
            Ok(_) => Ok(Self::Official),
            Err(_) => Err(source.error("neither model.embed_tokens.weight nor embed.weight is there: not a V4 model")),
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
    /// Equal tensors stacked.
    Stack(Vec<String>),
    /// The lower or upper half of the rows of each matrix in a stack.
    Half(String, bool),
}

/// One GGUF tensor.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) gather: Gather,
}

/// All tensors of the model.
pub(super) fn model(shape: &Shape, scheme: Scheme) -> Vec<Entry> {
    let mut list = List {
        scheme,
        official: String::new(),
        transformers: "model.".into(),
        gguf: String::new(),
        entries: Vec::new(),
    };
    list.one("token_embd.weight", Family::Embedding, "embed.weight", "embed_tokens.weight");
    list.one("output_norm.weight", Family::Vector, "norm.weight", "norm.weight");
    for (part, family) in [("fn", Family::Small), ("base", Family::Vector), ("scale", Family::Vector)] {
        let (official, transformers) = (format!("hc_head_{part}"), format!("hc_head.hc_{part}"));
        list.one(&format!("output_hc_{part}.weight"), family, &official, &transformers);
    }
    for i in 0..shape.layers() {
        list.gguf = format!("blk.{i}.");
        list.official = format!("layers.{i}.");
        list.transformers = format!("model.layers.{i}.");
        list.layer(shape, shape.ratios[i], i < shape.hash_layers);
    }
    (list.gguf, list.official, list.transformers) = Default::default();
    list.one("output.weight", Family::Output, "head.weight", "lm_head.weight");
    list.entries
}

/// All tensors of the drafting block, which every checkpoint names as the official code does.
pub(super) fn mtp(shape: &Shape) -> Vec<Entry> {
    let prefix = "mtp.0.".to_string();
    let mut list = List {
        scheme: Scheme::Official,
        official: prefix.clone(),
        transformers: String::new(),
        gguf: prefix,
        entries: Vec::new(),
    };
    for name in ["e_proj.weight", "h_proj.weight"] {
        list.one(name, Family::Attention, name, "");
    }
    for name in ["enorm.weight", "hnorm.weight", "norm.weight"] {
        list.one(name, Family::Vector, name, "");
    }
    for (part, family) in [("fn", Family::Small), ("base", Family::Vector), ("scale", Family::Vector)] {
        list.one(&format!("hc_head_{part}.weight"), family, &format!("hc_head_{part}"), "");
    }
    list.layer(shape, 0, false);
    list.entries
}

struct List {
    scheme: Scheme,
    /// Prefixes of the three namings.
    gguf: String,
    official: String,
    transformers: String,
    entries: Vec<Entry>,
}

impl List {
    fn one(&mut self, gguf: &str, family: Family, official: &str, transformers: &str) {
        let name = self.source(official, transformers);
        self.push(gguf, family, Gather::One(name));
    }

    fn push(&mut self, gguf: &str, family: Family, gather: Gather) {
        self.entries.push(Entry { name: format!("{}{gguf}", self.gguf), family, gather });
    }

    fn source(&self, official: &str, transformers: &str) -> String {
        match self.scheme {
            Scheme::Official => format!("{}{official}", self.official),
            Scheme::Transformers => format!("{}{transformers}", self.transformers),
        }
    }

    fn layer(&mut self, shape: &Shape, ratio: usize, hash: bool) {
        use Family::*;
        for (sub, attention) in [("attn", true), ("ffn", false)] {
            for (part, family) in [("fn", Small), ("base", Vector), ("scale", Vector)] {
                let name = format!("hc_{sub}_{part}");
                self.one(&format!("{name}.weight"), family, &name, &format!("{sub}_hc.{part}"));
            }
            let norm = if attention { "input_layernorm" } else { "post_attention_layernorm" };
            let name = format!("{sub}_norm.weight");
            self.one(&name, Vector, &name, &format!("{norm}.weight"));
        }
        for (gguf, family, official, transformers) in [
            ("attn_q_a", Attention, "wq_a", "q_a_proj"),
            ("attn_q_a_norm", Vector, "q_norm", "q_a_norm"),
            ("attn_q_b", Attention, "wq_b", "q_b_proj"),
            ("attn_kv", Attention, "wkv", "kv_proj"),
            ("attn_kv_a_norm", Vector, "kv_norm", "kv_norm"),
            ("attn_output_a", Attention, "wo_a", "o_a_proj"),
            ("attn_output_b", Attention, "wo_b", "o_b_proj"),
        ] {
            let (official, transformers) =
                (format!("attn.{official}.weight"), format!("self_attn.{transformers}.weight"));
            self.one(&format!("{gguf}.weight"), family, &official, &transformers);
        }
        self.one("attn_sinks.weight", Vector, "attn.attn_sink", "self_attn.sinks");
        if ratio != 0 {
            self.compressor("attn_compressor", "attn.compressor", "self_attn.compressor");
        }
        if ratio == 4 {
            let (official, transformers) = ("attn.indexer", "self_attn.compressor.indexer");
            let q = (format!("{official}.wq_b.weight"), format!("{transformers}.q_b_proj.weight"));
            self.one("indexer.attn_q_b.weight", Compressor, &q.0, &q.1);
            let w = (format!("{official}.weights_proj.weight"), format!("{transformers}.scorer.weights_proj.weight"));
            self.one("indexer.proj.weight", Compressor, &w.0, &w.1);
            self.compressor("indexer_compressor", &format!("{official}.compressor"), transformers);
        }
        self.feed_forward(shape, hash);
    }

    fn compressor(&mut self, gguf: &str, official: &str, transformers: &str) {
        for (part, family, o, t) in [
            ("kv", Family::Compressor, "wkv.weight", "kv_proj.weight"),
            ("gate", Family::Compressor, "wgate.weight", "gate_proj.weight"),
            ("ape", Family::Small, "ape", "position_bias"),
            ("norm", Family::Vector, "norm.weight", "kv_norm.weight"),
        ] {
            let name = format!("{gguf}_{part}.weight");
            self.one(&name, family, &format!("{official}.{o}"), &format!("{transformers}.{t}"));
        }
    }

    fn feed_forward(&mut self, shape: &Shape, hash: bool) {
        self.one("ffn_gate_inp.weight", Family::Small, "ffn.gate.weight", "mlp.gate.weight");
        if hash {
            self.one("ffn_gate_tid2eid.weight", Family::Table, "ffn.gate.tid2eid", "mlp.gate.tid2eid");
        } else {
            self.one("exp_probs_b.bias", Family::Vector, "ffn.gate.bias", "mlp.gate.e_score_correction_bias");
        }
        for (gguf, w) in [("gate", "w1"), ("up", "w3"), ("down", "w2")] {
            let gather = match (self.scheme, gguf) {
                (Scheme::Official, _) => Gather::Stack(
                    (0..shape.experts).map(|e| format!("{}ffn.experts.{e}.{w}.weight", self.official)).collect(),
                ),
                (Scheme::Transformers, "down") => Gather::One(self.source("", "mlp.experts.down_proj")),
                (Scheme::Transformers, _) => Gather::Half(self.source("", "mlp.experts.gate_up_proj"), gguf == "up"),
            };
            self.push(&format!("ffn_{gguf}_exps.weight"), Family::Experts, gather);
            let (official, transformers) =
                (format!("ffn.shared_experts.{w}.weight"), format!("mlp.shared_experts.{gguf}_proj.weight"));
            self.one(&format!("ffn_{gguf}_shexp.weight"), Family::Shared, &official, &transformers);
        }
    }
}
