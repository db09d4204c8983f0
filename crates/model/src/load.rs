//! Finds and checks every tensor of a model; the one list of tensor names.

use ds4_gguf::{File, Format, Tensor, blocks};

use crate::weights::*;
use crate::{Error, Shape};

impl Weights {
    /// Reads the shape and binds every tensor of `file`. The error lists each one that is missing or does not fit.
    pub fn load(file: &File) -> Result<Self, Error> {
        let shape = Shape::from_file(file)?;
        let mut loader = Loader { file, shape: &shape, problems: Vec::new() };
        let weights = loader.weights();
        loader.finish()?;
        let mtp = match file.tensor("mtp.0.norm.weight") {
            Some(_) => Some(Mtp::load(&shape, file)?),
            None => None,
        };
        Ok(Self { mtp, ..weights })
    }
}

impl Mtp {
    /// Binds the drafting block that `file` holds for a model of `shape`, as its own file or beside the model.
    pub fn load(shape: &Shape, file: &File) -> Result<Self, Error> {
        let mut loader = Loader { file, shape, problems: Vec::new() };
        let d = shape.hidden;
        let mtp = Mtp {
            e_proj: loader.matrix("mtp.0.e_proj.weight", d, d),
            h_proj: loader.matrix("mtp.0.h_proj.weight", d, d),
            e_norm: loader.vector("mtp.0.enorm.weight", &[d]),
            h_norm: loader.vector("mtp.0.hnorm.weight", &[d]),
            layer: loader.layer("mtp.0.", None),
            head: loader.head("mtp.0.hc_head"),
            norm: loader.vector("mtp.0.norm.weight", &[d]),
        };
        loader.finish()?;
        Ok(mtp)
    }
}

/// What may be stored how.
#[derive(Clone, Copy)]
enum Kind {
    /// F32, F16 or BF16.
    Float,
    /// Any format with a decoder.
    Any,
}

struct Loader<'a> {
    file: &'a File,
    shape: &'a Shape,
    problems: Vec<String>,
}

impl<'a> Loader<'a> {
    fn finish(self) -> Result<(), Error> {
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(Error::Mismatch { file: self.file.name().into(), problems: self.problems }),
        }
    }

    fn weights(&mut self) -> Weights {
        let s = self.shape;
        Weights {
            shape: s.clone(),
            embedding: self.matrix("token_embd.weight", s.hidden, s.vocab),
            layers: (0..s.layers()).map(|i| self.layer(&format!("blk.{i}."), Some(i))).collect(),
            head: self.head("output_hc"),
            output_norm: self.vector("output_norm.weight", &[s.hidden]),
            output: self.matrix("output.weight", s.hidden, s.vocab),
            mtp: None,
        }
    }

    /// A decoder layer, or (`index` none) the drafting block's layer: window only, routed by score.
    fn layer(&mut self, p: &str, index: Option<usize>) -> Layer {
        let s = self.shape;
        let ratio = index.map_or(0, |i| s.ratios[i]);
        let hash = index.is_some_and(|i| i < s.hash_layers);
        let clamp = index.and_then(|i| s.swiglu_clamp.get(i)).or(s.swiglu_clamp.last());
        Layer {
            hc_attention: self.hyper_connection(&format!("{p}hc_attn")),
            attention: self.attention(p, ratio),
            hc_feed_forward: self.hyper_connection(&format!("{p}hc_ffn")),
            feed_forward: FeedForward {
                norm: self.vector(&format!("{p}ffn_norm.weight"), &[s.hidden]),
                router: self.router(p, hash),
                experts: self.experts(p),
                shared: SharedExpert {
                    gate: self.matrix(&format!("{p}ffn_gate_shexp.weight"), s.hidden, s.expert_ff),
                    up: self.matrix(&format!("{p}ffn_up_shexp.weight"), s.hidden, s.expert_ff),
                    down: self.matrix(&format!("{p}ffn_down_shexp.weight"), s.expert_ff, s.hidden),
                },
                clamp: clamp.copied().unwrap_or(f32::INFINITY),
            },
        }
    }

    fn hyper_connection(&mut self, p: &str) -> HyperConnection {
        let width = self.shape.streams_width();
        HyperConnection {
            fn_: self.float_matrix(&format!("{p}_fn.weight"), width, Shape::mix_width()),
            scale: self.vector(&format!("{p}_scale.weight"), &[3]),
            base: self.vector(&format!("{p}_base.weight"), &[Shape::mix_width()]),
        }
    }

    fn head(&mut self, p: &str) -> HyperHead {
        HyperHead {
            fn_: self.float_matrix(&format!("{p}_fn.weight"), self.shape.streams_width(), Shape::STREAMS),
            scale: self.vector(&format!("{p}_scale.weight"), &[1]),
            base: self.vector(&format!("{p}_base.weight"), &[Shape::STREAMS]),
        }
    }

    fn attention(&mut self, p: &str, ratio: usize) -> Attention {
        let s = self.shape;
        let heads_width = s.heads * s.head_dim;
        Attention {
            norm: self.vector(&format!("{p}attn_norm.weight"), &[s.hidden]),
            q_a: self.matrix(&format!("{p}attn_q_a.weight"), s.hidden, s.q_rank),
            q_a_norm: self.vector(&format!("{p}attn_q_a_norm.weight"), &[s.q_rank]),
            q_b: self.matrix(&format!("{p}attn_q_b.weight"), s.q_rank, heads_width),
            kv: self.matrix(&format!("{p}attn_kv.weight"), s.hidden, s.head_dim),
            kv_norm: self.vector(&format!("{p}attn_kv_a_norm.weight"), &[s.head_dim]),
            sinks: self.vector(&format!("{p}attn_sinks.weight"), &[s.heads]),
            out_a: self.matrix(&format!("{p}attn_output_a.weight"), s.group_width(), s.out_groups * s.out_rank),
            out_b: self.matrix(&format!("{p}attn_output_b.weight"), s.out_groups * s.out_rank, s.hidden),
            compressor: (ratio != 0).then(|| self.compressor(&format!("{p}attn_compressor"), ratio, s.head_dim)),
            indexer: (ratio == 4).then(|| self.indexer(p)),
        }
    }

    fn compressor(&mut self, p: &str, ratio: usize, dim: usize) -> Compressor {
        let width = if ratio == 4 { 2 * dim } else { dim };
        Compressor {
            kv: self.matrix(&format!("{p}_kv.weight"), self.shape.hidden, width),
            gate: self.matrix(&format!("{p}_gate.weight"), self.shape.hidden, width),
            ape: self.vector(&format!("{p}_ape.weight"), &[width, ratio]),
            norm: self.vector(&format!("{p}_norm.weight"), &[dim]),
        }
    }

    fn indexer(&mut self, p: &str) -> Indexer {
        let s = self.shape;
        Indexer {
            q: self.matrix(&format!("{p}indexer.attn_q_b.weight"), s.q_rank, s.index_heads * s.index_dim),
            weights: self.matrix(&format!("{p}indexer.proj.weight"), s.hidden, s.index_heads),
            compressor: self.compressor(&format!("{p}indexer_compressor"), 4, s.index_dim),
        }
    }

    fn router(&mut self, p: &str, hash: bool) -> Router {
        let s = self.shape;
        let gate = self.float_matrix(&format!("{p}ffn_gate_inp.weight"), s.hidden, s.experts);
        let bias = format!("{p}exp_probs_b.bias");
        let selection = if hash {
            Selection::Hash(self.expert_table(&format!("{p}ffn_gate_tid2eid.weight")))
        } else if self.file.tensor(&bias).is_some() || p.starts_with("mtp.") {
            Selection::Score(self.vector(&bias, &[s.experts]))
        } else {
            Selection::Score(Vector { name: bias.into(), values: vec![0.0; s.experts].into() })
        };
        Router { gate, selection }
    }

    fn experts(&mut self, p: &str) -> Experts {
        let s = self.shape;
        let gate = self.stack(&format!("{p}ffn_gate_exps.weight"), s.hidden, s.expert_ff);
        let up = self.stack(&format!("{p}ffn_up_exps.weight"), s.hidden, s.expert_ff);
        if gate.format != up.format && !gate.bytes.is_empty() && !up.bytes.is_empty() {
            self.problem(&up.name, format!("{} as ffn_gate_exps", gate.format.name()), up.format.name());
        }
        Experts { gate, up, down: self.stack(&format!("{p}ffn_down_exps.weight"), s.expert_ff, s.hidden) }
    }

    /// The table that routes by token id: `[experts_used, vocab]` I32, every entry an expert.
    fn expert_table(&mut self, name: &str) -> ds4_gguf::Bytes {
        let s = self.shape;
        let Some(tensor) = self.tensor(name, &[s.experts_used, s.vocab]) else { return empty() };
        if tensor.format != Format::I32 {
            self.problem(name, "type I32", tensor.format.name());
            return empty();
        }
        let bytes = self.file.bytes(tensor);
        let outside = bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        if let Some((i, e)) = outside.enumerate().find(|&(_, e)| e < 0 || e as usize >= s.experts) {
            let (token, slot) = (i / s.experts_used, i % s.experts_used);
            self.problem(name, format!("experts 0 to {}", s.experts - 1), format!("{e} for token {token} slot {slot}"));
        }
        bytes
    }

    fn matrix(&mut self, name: &str, cols: usize, rows: usize) -> Matrix {
        self.bind(name, &[cols, rows], Kind::Any)
    }

    fn float_matrix(&mut self, name: &str, cols: usize, rows: usize) -> Matrix {
        self.bind(name, &[cols, rows], Kind::Float)
    }

    fn stack(&mut self, name: &str, cols: usize, rows: usize) -> Matrix {
        self.bind(name, &[cols, rows, self.shape.experts], Kind::Any)
    }

    fn bind(&mut self, name: &str, dims: &[usize], kind: Kind) -> Matrix {
        let (format, bytes) = match self.tensor(name, dims) {
            Some(tensor) if self.fits(tensor, kind) => (tensor.format, self.file.bytes(tensor)),
            _ => (Format::F32, empty()),
        };
        let count = dims.get(2).copied().unwrap_or(1);
        Matrix { name: name.into(), format, cols: dims[0], rows: dims[1], count, bytes }
    }

    /// A small tensor, widened; `dims` as in the file, row length first.
    fn vector(&mut self, name: &str, dims: &[usize]) -> Vector {
        let mut values = vec![0.0f32; 0];
        if let Some(tensor) = self.tensor(name, dims)
            && self.fits(tensor, Kind::Float)
        {
            values.resize(dims.iter().product(), 0.0);
            if let Err(error) = blocks::decode(tensor.format, &self.file.bytes(tensor), &mut values) {
                self.problem(name, "readable values", error);
            }
            if let Some((i, x)) = values.iter().enumerate().find(|(_, x)| !x.is_finite()) {
                self.problem(name, "finite values", format!("{x} at index {i}"));
            }
        }
        Vector { name: name.into(), values: values.into() }
    }

    fn tensor(&mut self, name: &str, dims: &[usize]) -> Option<&'a Tensor> {
        let Some(tensor) = self.file.tensor(name) else {
            self.problem(name, format!("shape {dims:?}"), "no such tensor");
            return None;
        };
        if !tensor.dims.iter().map(|&d| d as u128).eq(dims.iter().map(|&d| d as u128)) {
            self.problem(name, format!("shape {dims:?}"), format!("shape {:?}", tensor.dims));
            return None;
        }
        Some(tensor)
    }

    fn fits(&mut self, tensor: &Tensor, kind: Kind) -> bool {
        use Format::*;
        let (fits, expected) = match kind {
            Kind::Float => (matches!(tensor.format, F32 | F16 | BF16), "type F32, F16 or BF16"),
            Kind::Any => (
                matches!(tensor.format, F32 | F16 | BF16 | Q8_0 | Q4_K | Q2_K | IQ2_XXS),
                "type F32, F16, BF16, Q8_0, Q4_K, Q2_K or IQ2_XXS",
            ),
        };
        if !fits {
            self.problem(&tensor.name, expected, format!("type {}", tensor.format.name()));
        }
        fits
    }

    fn problem(&mut self, name: &str, expected: impl std::fmt::Display, found: impl std::fmt::Display) {
        self.problems.push(format!("tensor {name}: expected {expected}, found {found}"));
    }
}

/// Stands in for a tensor that was refused; the model is not returned then.
fn empty() -> ds4_gguf::Bytes {
    ds4_gguf::Bytes::default()
}
