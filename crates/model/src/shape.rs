//! Every size and constant of a model, read from GGUF metadata and checked.

use ds4_gguf::{File, Metadata};

use crate::Error;

/// YaRN scaling of the compressed layers' rotation frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How much slower the slow pairs turn.
    pub factor: f32,
    /// Context length the plain frequencies were made for, tokens.
    pub original_context: u32,
    /// Turns over the original context above which a pair keeps its frequency.
    pub beta_fast: f32,
    /// Turns below which it is divided by the factor.
    pub beta_slow: f32,
}

/// Sizes and constants of a V4 model. Widths are in elements, lengths in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Model name for people.
    pub name: String,
    /// Longest context the model was made for.
    pub context_length: u32,
    /// Width of one residual stream (D).
    pub hidden: usize,
    /// Number of tokens.
    pub vocab: usize,
    /// Query heads (H); there is one key/value head.
    pub heads: usize,
    /// Width of a head's query and of the key/value row (d).
    pub head_dim: usize,
    /// How many trailing channels of a head rotate (r).
    pub rope_dim: usize,
    /// Rank of the query projection.
    pub q_rank: usize,
    /// Groups of heads in the output projection (G).
    pub out_groups: usize,
    /// Rank of one group's output projection.
    pub out_rank: usize,
    /// Rows of the sliding window, the current token included.
    pub window: usize,
    /// Per layer: 0 (window only), 4 (compressed, selected by the indexer) or 128 (compressed).
    pub ratios: Vec<usize>,
    /// Heads of the indexer; 0 in a model without ratio-4 layers.
    pub index_heads: usize,
    /// Width of an indexer head and row.
    pub index_dim: usize,
    /// How many compressed rows the indexer selects.
    pub index_top_k: usize,
    /// Routed experts of a layer.
    pub experts: usize,
    /// Routed experts a token uses.
    pub experts_used: usize,
    /// Inner width of an expert, routed or shared.
    pub expert_ff: usize,
    /// The first layers route by token id instead of by score.
    pub hash_layers: usize,
    /// Factor on the routed experts' normalised weights.
    pub expert_scale: f32,
    /// Per layer: bound of the gate and up values of an expert.
    pub swiglu_clamp: Vec<f32>,
    /// Iterations that make a mixing matrix doubly stochastic.
    pub sinkhorn_iterations: usize,
    /// ε of the hyper-connections.
    pub hc_eps: f32,
    /// ε of every RMS norm.
    pub rms_eps: f32,
    /// Rotation base of layers without compression.
    pub rope_base: f32,
    /// Rotation base of layers with compression.
    pub compress_rope_base: f32,
    /// Scaling of the latter.
    pub yarn: Yarn,
    /// MTP blocks that belong to the model.
    pub mtp_blocks: usize,
}

impl Shape {
    /// Residual streams of a V4 model.
    pub const STREAMS: usize = 4;

    /// Reads and checks the shape in a file's metadata. The error lists every key that does not fit.
    pub fn from_file(file: &File) -> Result<Self, Error> {
        let architecture = file.metadata().str("general.architecture")?.unwrap_or("(none)");
        if architecture != "deepseek4" {
            return Err(Error::Architecture { file: file.name().into(), found: architecture.into() });
        }
        let mut reader = Reader { metadata: file.metadata(), problems: Vec::new() };
        let shape = reader.shape();
        if reader.problems.is_empty() {
            reader.problems = shape.inconsistencies();
        }
        match reader.problems.is_empty() {
            true => Ok(shape),
            false => Err(Error::Mismatch { file: file.name().into(), problems: reader.problems }),
        }
    }

    /// Decoder layers.
    pub fn layers(&self) -> usize {
        self.ratios.len()
    }

    /// Width of the four streams together.
    pub fn streams_width(&self) -> usize {
        Self::STREAMS * self.hidden
    }

    /// Values a hyper-connection derives per token: 4 in, 4 out, 4 x 4 mixing.
    pub const fn mix_width() -> usize {
        2 * Self::STREAMS + Self::STREAMS * Self::STREAMS
    }

    /// Channels of a key/value row that do not rotate.
    pub fn nope_dim(&self) -> usize {
        self.head_dim - self.rope_dim
    }

    /// Width of a block of a stored row that shares one scale.
    pub fn row_block(&self) -> usize {
        self.nope_dim().min(64)
    }

    /// Query channels that enter one group of the output projection.
    pub fn group_width(&self) -> usize {
        self.heads * self.head_dim / self.out_groups
    }

    /// Whether any layer selects rows with an indexer.
    pub fn has_indexer(&self) -> bool {
        self.ratios.contains(&4)
    }

    /// Relations between sizes that the formulas need, one line for each that does not hold.
    fn inconsistencies(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, what: String| {
            if !holds {
                problems.push(what);
            }
        };
        need(
            self.rope_dim.is_multiple_of(2) && self.rope_dim < self.head_dim,
            format!(
                "key deepseek4.rope.dimension_count: expected an even number below attention.key_length {}, found {}",
                self.head_dim, self.rope_dim
            ),
        );
        need(
            self.rope_dim >= self.head_dim || self.nope_dim().is_multiple_of(self.row_block()),
            format!(
                "key deepseek4.attention.key_length: expected rope.dimension_count {} plus a multiple of 64, found {}",
                self.rope_dim, self.head_dim
            ),
        );
        need(
            self.heads.is_multiple_of(self.out_groups),
            format!(
                "key deepseek4.attention.output_group_count: expected a divisor of head_count {}, found {}",
                self.heads, self.out_groups
            ),
        );
        need(
            self.experts_used <= self.experts,
            format!(
                "key deepseek4.expert_used_count: expected at most expert_count {}, found {}",
                self.experts, self.experts_used
            ),
        );
        if self.has_indexer() {
            need(
                self.index_dim.is_power_of_two() && self.index_dim >= 32 && self.index_dim >= self.rope_dim,
                format!(
                    "key deepseek4.attention.indexer.key_length: expected a power of two, at least 32 and at least \
                     rope.dimension_count {}, found {}",
                    self.rope_dim, self.index_dim
                ),
            );
        }
        problems
    }
}

/// Reads keys one by one and remembers what was wrong; a wrong key reads as its smallest allowed value.
struct Reader<'a> {
    metadata: &'a Metadata,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn shape(&mut self) -> Shape {
        let layers = self.size("block_count", 1, 1024);
        let ratios = self.ratios(layers);
        let indexer = ratios.contains(&4);
        self.fixed();
        Shape {
            name: self.name(),
            context_length: self.optional_size("context_length", 1, u32::MAX as usize).unwrap_or(1 << 20) as u32,
            hidden: self.size("embedding_length", 32, 1 << 16),
            vocab: self.size("vocab_size", 1, 1 << 24),
            heads: self.size("attention.head_count", 1, 1024),
            head_dim: self.key_length(),
            rope_dim: self.size("rope.dimension_count", 2, 4096),
            q_rank: self.size("attention.q_lora_rank", 1, 1 << 16),
            out_groups: self.size("attention.output_group_count", 1, 1024),
            out_rank: self.size("attention.output_lora_rank", 1, 1 << 16),
            window: self.size("attention.sliding_window", 1, 4096),
            index_heads: if indexer { self.size("attention.indexer.head_count", 1, 1024) } else { 0 },
            index_dim: if indexer { self.size("attention.indexer.key_length", 1, 4096) } else { 0 },
            index_top_k: if indexer { self.size("attention.indexer.top_k", 1, 1 << 16) } else { 0 },
            experts: self.size("expert_count", 1, 1 << 16),
            experts_used: self.size("expert_used_count", 1, 64),
            expert_ff: self.size("expert_feed_forward_length", 1, 1 << 16),
            hash_layers: self.size("hash_layer_count", 0, layers),
            expert_scale: self.float("expert_weights_scale", 0.0, 1e6),
            swiglu_clamp: self.clamps(layers),
            sinkhorn_iterations: self.size("hyper_connection.sinkhorn_iterations", 1, 1000),
            hc_eps: self.float("hyper_connection.epsilon", 0.0, 1.0),
            rms_eps: self.float("attention.layer_norm_rms_epsilon", 0.0, 1.0),
            rope_base: self.float("rope.freq_base", 1.0, 1e12),
            compress_rope_base: self.float("attention.compress_rope_freq_base", 1.0, 1e12),
            yarn: Yarn {
                factor: self.float("rope.scaling.factor", 1.0, 1e6),
                original_context: self.size("rope.scaling.original_context_length", 1, u32::MAX as usize) as u32,
                beta_fast: self.float("rope.scaling.yarn_beta_fast", 1e-6, 1e6),
                beta_slow: self.float("rope.scaling.yarn_beta_slow", 1e-6, 1e6),
            },
            mtp_blocks: self.optional_size("nextn_predict_layers", 0, 16).unwrap_or(0),
            ratios,
        }
    }

    /// What every V4 model has in common and the formulas take for granted.
    fn fixed(&mut self) {
        self.exactly("attention.head_count_kv", 1);
        self.exactly("expert_shared_count", 1);
        self.exactly("hyper_connection.count", Shape::STREAMS as u64);
        for key in ["expert_group_count", "expert_group_used_count"] {
            if self.take(key, |m, k| m.u64(k)).is_some_and(|n| n != 0) {
                self.exactly(key, 0);
            }
        }
        if let Some(gating) = self.take("expert_gating_func", |m, k| m.u64(k)) {
            self.check("expert_gating_func", gating == 4, "4 (square root of softplus)", gating);
        }
        if let Some(norm) = self.take("expert_weights_norm", |m, k| m.bool(k)) {
            self.check("expert_weights_norm", norm, "true", norm);
        }
        let scaling = self.take("rope.scaling.type", |m, k| m.str(k).map(|s| s.map(str::to_owned)));
        if let Some(scaling) = scaling {
            self.check("rope.scaling.type", scaling == "yarn", "\"yarn\"", format!("{scaling:?}"));
        }
    }

    fn name(&mut self) -> String {
        match self.metadata.str("general.name") {
            Ok(name) => name.unwrap_or("DeepSeek V4").to_owned(),
            Err(error) => {
                self.problems.push(error.to_string());
                String::new()
            }
        }
    }

    fn key_length(&mut self) -> usize {
        let key = self.size("attention.key_length", 4, 4096);
        let value = self.size("attention.value_length", 4, 4096);
        self.check("attention.value_length", key == value, format!("key_length {key}"), value);
        key
    }

    fn ratios(&mut self, layers: usize) -> Vec<usize> {
        const KEY: &str = "attention.compress_ratios";
        let Some(list) = self.take(KEY, |m, k| m.u32s(k)) else {
            self.missing(KEY, "a list of 0, 4 and 128");
            return Vec::new();
        };
        self.check(KEY, list.len() >= layers, format!("at least block_count {layers} entries"), list.len());
        if let Some(odd) = list.iter().take(layers).find(|r| ![0, 4, 128].contains(*r)) {
            self.check(KEY, false, "entries 0, 4 or 128", odd);
        }
        list.into_iter().take(layers).map(|r| r as usize).collect()
    }

    fn clamps(&mut self, layers: usize) -> Vec<f32> {
        const KEY: &str = "swiglu_clamp_exp";
        let Some(list) = self.take(KEY, |m, k| m.f32s(k)) else {
            self.missing(KEY, "a list of numbers");
            return Vec::new();
        };
        self.check(KEY, list.len() >= layers, format!("at least block_count {layers} entries"), list.len());
        if let Some(bad) = list.iter().find(|c| !(c.is_finite() && **c > 0.0)) {
            self.check(KEY, false, "positive numbers", bad);
        }
        list
    }

    fn size(&mut self, key: &str, least: usize, most: usize) -> usize {
        self.optional_size(key, least, most).unwrap_or_else(|| {
            self.missing(key, "a number");
            least
        })
    }

    fn optional_size(&mut self, key: &str, least: usize, most: usize) -> Option<usize> {
        let n = self.take(key, |m, k| m.u64(k))?;
        let fits = (least as u64..=most as u64).contains(&n);
        self.check(key, fits, format!("a number from {least} to {most}"), n);
        Some(if fits { n as usize } else { least })
    }

    fn float(&mut self, key: &str, least: f32, most: f32) -> f32 {
        let Some(x) = self.take(key, |m, k| m.f32(k)) else {
            self.missing(key, "a number");
            return least;
        };
        self.check(key, (least..=most).contains(&x), format!("a number from {least} to {most}"), x);
        x
    }

    fn exactly(&mut self, key: &str, want: u64) {
        match self.take(key, |m, k| m.u64(k)) {
            Some(found) => self.check(key, found == want, want, found),
            None => self.missing(key, want),
        }
    }

    /// The value of `deepseek4.<key>`; a value of the wrong type is a problem and reads as absent.
    fn take<T>(&mut self, key: &str, get: impl Fn(&Metadata, &str) -> Result<Option<T>, ds4_gguf::Error>) -> Option<T> {
        match get(self.metadata, &format!("deepseek4.{key}")) {
            Ok(value) => value,
            Err(error) => {
                self.problems.push(error.to_string());
                None
            }
        }
    }

    fn check(&mut self, key: &str, holds: bool, expected: impl std::fmt::Display, found: impl std::fmt::Display) {
        if !holds {
            self.problems.push(format!("key deepseek4.{key}: expected {expected}, found {found}"));
        }
    }

    fn missing(&mut self, key: &str, expected: impl std::fmt::Display) {
        let name = format!("deepseek4.{key}");
        if self.metadata.get(&name).is_none() {
            self.problems.push(format!("key {name}: expected {expected}, found nothing"));
        }
    }
}
