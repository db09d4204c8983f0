//! Tensors by the work they do.

use std::collections::BTreeMap;
use std::ops::Range;

use ds4_gguf::{File, Format, Tensor};

use super::text;

/// Tensors that do the same work, in the order in which a token meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Embedding,
    HyperConnections,
    Norms,
    Attention,
    Compressor,
    Indexer,
    Router,
    Experts,
    Shared,
    Output,
    Mtp,
    Other,
}

impl Family {
    /// The family of the tensor `name`.
    pub(super) fn of(name: &str) -> Self {
        if name.starts_with("mtp.") {
            return Self::Mtp;
        }
        let in_layer = split_layer(name);
        let stem = in_layer.map_or(name, |(_, rest)| rest);
        match stem.rsplit_once('.').map_or(stem, |(stem, _)| stem) {
            "token_embd" => Self::Embedding,
            "output" => Self::Output,
            "output_norm" | "attn_norm" | "ffn_norm" => Self::Norms,
            "ffn_gate_inp" | "ffn_gate_tid2eid" | "exp_probs_b" => Self::Router,
            "ffn_gate_exps" | "ffn_up_exps" | "ffn_down_exps" => Self::Experts,
            "ffn_gate_shexp" | "ffn_up_shexp" | "ffn_down_shexp" => Self::Shared,
            s if s.starts_with("hc_") || s.starts_with("output_hc_") => Self::HyperConnections,
            s if s.starts_with("attn_compressor") => Self::Compressor,
            s if s.starts_with("indexer") => Self::Indexer,
            s if in_layer.is_some() && s.starts_with("attn_") => Self::Attention,
            _ => Self::Other,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::HyperConnections => "hyper-connections",
            Self::Norms => "norms",
            Self::Attention => "attention",
            Self::Compressor => "compressor",
            Self::Indexer => "indexer",
            Self::Router => "router",
            Self::Experts => "routed experts",
            Self::Shared => "shared expert",
            Self::Output => "output",
            Self::Mtp => "MTP block",
            Self::Other => "other",
        }
    }
}

/// `blk.7.attn_kv.weight` is layer 7 and `attn_kv.weight`.
fn split_layer(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse::<u16>().ok()?.into(), rest))
}

/// What tensors take together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) tensors: usize,
    pub(super) bytes: u64,
    /// Elements that are weights; ids are not.
    pub(super) parameters: u128,
    /// Bytes by format.
    formats: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, tensor: &Tensor) {
        self.tensors += 1;
        self.bytes = self.bytes.saturating_add(tensor.len);
        if tensor.format != Format::I32 {
            self.parameters += u128::from(tensor.elements());
        }
        *self.formats.entry(tensor.format.to_string()).or_default() += tensor.len;
    }

    /// The formats, largest first; each with its bytes if there are several.
    pub(super) fn formats(&self) -> String {
        let mut list: Vec<_> = self.formats.iter().collect();
        list.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        match list.as_slice() {
            [(format, _)] => format.to_string(),
            list => {
                let each = list.iter().map(|(format, bytes)| format!("{format} {}", text::bytes(**bytes as f64)));
                each.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Every family that `file` has tensors of.
pub(super) fn sums(file: &File) -> BTreeMap<Family, Sum> {
    let mut sums = BTreeMap::<Family, Sum>::new();
    for tensor in file.tensors() {
        sums.entry(Family::of(&tensor.name)).or_default().add(tensor);
    }
    sums
}

/// Neighbouring layers whose routed experts have the same formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExpertRange {
    pub(super) layers: Range<usize>,
    /// Gate, up, down; none where the file has no such tensor.
    pub(super) formats: [Option<Format>; 3],
    pub(super) sum: Sum,
}

impl ExpertRange {
    /// `gate and up IQ2_XXS, down Q2_K`.
    pub(super) fn formats(&self) -> String {
        let name = |format: Option<Format>| format.map_or("none".into(), |f| f.name());
        let [gate, up, down] = self.formats;
        match (gate == up, up == down) {
            (true, true) => name(gate).into_owned(),
            (true, false) => format!("gate and up {}, down {}", name(gate), name(down)),
            _ => format!("gate {}, up {}, down {}", name(gate), name(up), name(down)),
        }
    }
}

/// The routed experts of all layers; one range unless formats are mixed.
pub(super) fn expert_ranges(file: &File) -> Vec<ExpertRange> {
    const NAMES: [&str; 3] = ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"];
    let mut layers = BTreeMap::<usize, [Option<&Tensor>; 3]>::new();
    for tensor in file.tensors() {
        if let Some((layer, rest)) = split_layer(&tensor.name)
            && let Some(i) = NAMES.iter().position(|name| *name == rest)
        {
            layers.entry(layer).or_default()[i] = Some(tensor);
        }
    }
    let mut ranges = Vec::<ExpertRange>::new();
    for (layer, tensors) in layers {
        let formats = tensors.map(|tensor| tensor.map(|t| t.format));
        if ranges.last().is_none_or(|last| last.layers.end != layer || last.formats != formats) {
            ranges.push(ExpertRange { layers: layer..layer, formats, sum: Sum::default() });
        }
        if let Some(range) = ranges.last_mut() {
            range.layers.end += 1;
            tensors.iter().flatten().for_each(|tensor| range.sum.add(tensor));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_of_a_model_has_its_family() {
        use Family::*;
        for (name, family) in [
            ("token_embd.weight", Embedding),
            ("output.weight", Output),
            ("output_norm.weight", Norms),
            ("output_hc_fn.weight", HyperConnections),
            ("blk.0.hc_attn_scale.weight", HyperConnections),
            ("blk.12.attn_norm.weight", Norms),
            ("blk.12.attn_q_a_norm.weight", Attention),
            ("blk.12.attn_compressor_kv.weight", Compressor),
            ("blk.12.indexer.proj.weight", Indexer),
            ("blk.12.indexer_compressor_ape.weight", Indexer),
            ("blk.12.exp_probs_b.bias", Router),
            ("blk.12.ffn_up_exps.weight", Experts),
            ("blk.12.ffn_up_shexp.weight", Shared),
            ("mtp.0.attn_kv.weight", Mtp),
            ("blk.12.ffn_up.weight", Other),
            ("blk.99999999999999999999.attn_kv.weight", Other),
            ("attn_kv.weight", Other),
            ("", Other),
        ] {
            assert_eq!(Family::of(name), family, "{name}");
        }
    }
}
