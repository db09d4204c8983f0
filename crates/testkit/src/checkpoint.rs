//! Small V4 checkpoints in the form in which DeepSeek publishes the model, with random weights: routed experts in FP4,
//! other large matrices in FP8, the rest in BF16 and F32, the table of experts in I64.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A checkpoint's sizes; `Default` is a few layers of every kind, with matrices that end inside a block of scales.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Width of a stream.
    pub hidden: usize,
    /// Tokens.
    pub vocab: usize,
    /// Routed experts of a layer.
    pub experts: usize,
    /// Width of an expert.
    pub expert_ff: usize,
    /// Compression ratio of each layer.
    pub ratios: Vec<usize>,
    /// Another seed gives other weights.
    pub seed: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { hidden: 160, vocab: 64, experts: 6, expert_ff: 192, ratios: vec![0, 4, 128, 4], seed: 1 }
    }
}

const HEADS: usize = 4;
const HEAD_DIM: usize = 96;
const Q_RANK: usize = 64;
const OUT_GROUPS: usize = 2;
const OUT_RANK: usize = 80;
const INDEX_HEADS: usize = 2;
const INDEX_DIM: usize = 32;
const EXPERTS_USED: usize = 2;

/// A tensor as a shard holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Element type.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A checkpoint in memory, to be damaged and written.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The text of `config.json`.
    pub config: String,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Stored>,
}

impl Checkpoint {
    /// A model of these sizes, with its drafting block.
    pub fn new(sizes: &Sizes) -> Self {
        let mut made = Maker { sizes, tensors: BTreeMap::new(), random: sizes.seed };
        made.model();
        Self { config: config(sizes), tensors: made.tensors }
    }

    /// The same values in F32, without scales.
    pub fn decoded(&self) -> Self {
        let decode = |(name, stored): (&String, &Stored)| {
            let scale = self.tensors.get(&name.replace(".weight", ".scale"));
            let plain = match (stored.dtype, scale) {
                (Dtype::F8_E8M0, _) => return None,
                (Dtype::F8_E4M3, Some(scale)) => {
                    floats(stored, 1, |row, col, byte| fp8(byte) * power(scale, row / 128, col / 128))
                }
                (Dtype::I8, Some(scale)) => floats(stored, 2, |row, col, byte| {
                    fp4(if col % 2 == 0 { byte & 15 } else { byte >> 4 }) * power(scale, row, col / 32)
                }),
                _ => stored.clone(),
            };
            Some((name.clone(), plain))
        };
        Self { config: self.config.clone(), tensors: self.tensors.iter().filter_map(decode).collect() }
    }

    /// Writes `config.json` and one file.
    pub fn write(&self, folder: &Path) {
        fs::write(folder.join("config.json"), &self.config).expect("the folder can be written");
        write_shard(&folder.join("model.safetensors"), self.tensors.iter());
    }

    /// Writes `config.json`, the index and so many files, `model-00001-of-N.safetensors` and so on.
    pub fn write_sharded(&self, folder: &Path, shards: usize) {
        fs::write(folder.join("config.json"), &self.config).expect("the folder can be written");
        let name = |i: usize| format!("model-{:05}-of-{shards:05}.safetensors", i % shards + 1);
        for shard in 0..shards {
            write_shard(&folder.join(name(shard)), self.tensors.iter().skip(shard).step_by(shards));
        }
        let map: Vec<String> =
            self.tensors.keys().enumerate().map(|(i, tensor)| format!("{tensor:?}: {:?}", name(i))).collect();
        let index = format!("{{\"metadata\": {{}}, \"weight_map\": {{{}}}}}", map.join(",\n"));
        fs::write(folder.join("model.safetensors.index.json"), index).expect("the folder can be written");
    }

    /// A tensor, to be changed.
    pub fn tensor(&mut self, name: &str) -> &mut Stored {
        self.tensors.get_mut(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

fn write_shard<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Stored)>) {
    let views = tensors.map(|(name, t)| {
        (name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    fs::write(path, safetensors::serialize(views, None).expect("tensors fit a file"))
        .expect("the folder can be written");
}

/// Every value of a matrix with `per_byte` columns a byte.
fn floats(stored: &Stored, per_byte: usize, value: impl Fn(usize, usize, u8) -> f64) -> Stored {
    let (rows, cols) = (stored.shape[0], stored.shape[1] * per_byte);
    let places = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
    let at = |(row, col): (usize, usize)| value(row, col, stored.bytes[(row * cols + col) / per_byte]) as f32;
    let bytes = places.flat_map(|place| at(place).to_le_bytes()).collect();
    Stored { dtype: Dtype::F32, shape: vec![rows, cols], bytes }
}

/// The definition of E4M3: (-1)^s 2^(e-7) (1 + f/8), and 2^-6 f/8 where e = 0.
fn fp8(code: u8) -> f64 {
    let (e, f) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let magnitude = if e == 0 { f / 8.0 * 2f64.powi(-6) } else { (1.0 + f / 8.0) * 2f64.powi(e - 7) };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The definition of E2M1: (-1)^s 2^(e-1) (1 + f/2), and f/2 where e = 0.
fn fp4(code: u8) -> f64 {
    let (e, f) = (i32::from(code >> 1 & 3), f64::from(code & 1));
    let magnitude = if e == 0 { f / 2.0 } else { (1.0 + f / 2.0) * 2f64.powi(e - 1) };
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// The scale at a row and column of a matrix of E8M0.
fn power(scales: &Stored, row: usize, col: usize) -> f64 {
    2f64.powi(i32::from(scales.bytes[row * scales.shape[1] + col]) - 127)
}

struct Maker<'a> {
    sizes: &'a Sizes,
    tensors: BTreeMap<String, Stored>,
    random: u64,
}

impl Maker<'_> {
    fn model(&mut self) {
        let (d, vocab, layers) = (self.sizes.hidden, self.sizes.vocab, self.sizes.ratios.len());
        self.bf16("embed.weight", &[vocab, d], 0.0);
        self.bf16("head.weight", &[vocab, d], 0.0);
        self.bf16("norm.weight", &[d], 1.0);
        self.hyper("hc_head", 4, 1);
        for i in 0..layers {
            self.layer(&format!("layers.{i}."), self.sizes.ratios[i], i == 0);
        }
        for name in ["mtp.0.e_proj", "mtp.0.h_proj"] {
            self.fp8(name, d, d);
        }
        for name in ["mtp.0.enorm.weight", "mtp.0.hnorm.weight", "mtp.0.norm.weight"] {
            self.bf16(name, &[d], 1.0);
        }
        self.hyper("mtp.0.hc_head", 4, 1);
        self.layer("mtp.0.", 0, false);
    }

    fn layer(&mut self, p: &str, ratio: usize, hash: bool) {
        let d = self.sizes.hidden;
        for sub in ["attn", "ffn"] {
            self.hyper(&format!("{p}hc_{sub}"), 24, 3);
            self.bf16(&format!("{p}{sub}_norm.weight"), &[d], 1.0);
        }
        self.fp8(&format!("{p}attn.wq_a"), Q_RANK, d);
        self.bf16(&format!("{p}attn.q_norm.weight"), &[Q_RANK], 1.0);
        self.fp8(&format!("{p}attn.wq_b"), HEADS * HEAD_DIM, Q_RANK);
        self.fp8(&format!("{p}attn.wkv"), HEAD_DIM, d);
        self.bf16(&format!("{p}attn.kv_norm.weight"), &[HEAD_DIM], 1.0);
        self.fp8(&format!("{p}attn.wo_a"), OUT_GROUPS * OUT_RANK, HEADS * HEAD_DIM / OUT_GROUPS);
        self.fp8(&format!("{p}attn.wo_b"), d, OUT_GROUPS * OUT_RANK);
        self.f32(&format!("{p}attn.attn_sink"), &[HEADS]);
        if ratio != 0 {
            self.compressor(&format!("{p}attn.compressor"), ratio, HEAD_DIM);
        }
        if ratio == 4 {
            self.fp8(&format!("{p}attn.indexer.wq_b"), INDEX_HEADS * INDEX_DIM, Q_RANK);
            self.bf16(&format!("{p}attn.indexer.weights_proj.weight"), &[INDEX_HEADS, d], 0.0);
            self.compressor(&format!("{p}attn.indexer.compressor"), 4, INDEX_DIM);
        }
        self.feed_forward(&format!("{p}ffn."), hash);
    }

    fn compressor(&mut self, p: &str, ratio: usize, dim: usize) {
        let width = if ratio == 4 { 2 * dim } else { dim };
        self.bf16(&format!("{p}.wkv.weight"), &[width, self.sizes.hidden], 0.0);
        self.bf16(&format!("{p}.wgate.weight"), &[width, self.sizes.hidden], 0.0);
        self.f32(&format!("{p}.ape"), &[ratio, width]);
        self.bf16(&format!("{p}.norm.weight"), &[dim], 1.0);
    }

    fn feed_forward(&mut self, p: &str, hash: bool) {
        let Sizes { hidden: d, vocab, experts, expert_ff: ff, .. } = *self.sizes;
        self.bf16(&format!("{p}gate.weight"), &[experts, d], 0.0);
        if hash {
            let ids = (0..vocab * EXPERTS_USED).flat_map(|i| (i as i64 % experts as i64).to_le_bytes()).collect();
            self.put(&format!("{p}gate.tid2eid"), Dtype::I64, &[vocab, EXPERTS_USED], ids);
        } else {
            self.f32(&format!("{p}gate.bias"), &[experts]);
        }
        for e in 0..experts {
            self.fp4(&format!("{p}experts.{e}.w1"), ff, d);
            self.fp4(&format!("{p}experts.{e}.w2"), d, ff);
            self.fp4(&format!("{p}experts.{e}.w3"), ff, d);
        }
        self.fp8(&format!("{p}shared_experts.w1"), ff, d);
        self.fp8(&format!("{p}shared_experts.w2"), d, ff);
        self.fp8(&format!("{p}shared_experts.w3"), ff, d);
    }

    fn hyper(&mut self, p: &str, width: usize, scales: usize) {
        self.f32(&format!("{p}_fn"), &[width, 4 * self.sizes.hidden]);
        self.f32(&format!("{p}_base"), &[width]);
        self.f32(&format!("{p}_scale"), &[scales]);
    }

    /// Values within 0.1 of `mean`.
    fn bf16(&mut self, name: &str, shape: &[usize], mean: f32) {
        let bytes = self.uniform(shape).flat_map(|x| ((x + mean).to_bits() >> 16).to_le_bytes()[..2].to_vec());
        let bytes = bytes.collect();
        self.put(name, Dtype::BF16, shape, bytes);
    }

    fn f32(&mut self, name: &str, shape: &[usize]) {
        let bytes = self.uniform(shape).flat_map(f32::to_le_bytes).collect();
        self.put(name, Dtype::F32, shape, bytes);
    }

    /// A matrix of any codes but NaN.
    fn fp8(&mut self, name: &str, rows: usize, cols: usize) {
        let bytes =
            (0..rows * cols).map(|_| self.next() as u8).map(|b| if b & 0x7f == 0x7f { b - 1 } else { b }).collect();
        self.put(&format!("{name}.weight"), Dtype::F8_E4M3, &[rows, cols], bytes);
        self.scales(name, rows.div_ceil(128), cols.div_ceil(128), 127 - 12);
    }

    fn fp4(&mut self, name: &str, rows: usize, cols: usize) {
        let bytes = (0..rows * cols / 2).map(|_| self.next() as u8).collect();
        self.put(&format!("{name}.weight"), Dtype::I8, &[rows, cols / 2], bytes);
        self.scales(name, rows, cols / 32, 127 - 7);
    }

    /// Scales of one of three neighbouring powers of two.
    fn scales(&mut self, name: &str, rows: usize, cols: usize, least: u8) {
        let bytes = (0..rows * cols).map(|_| least + (self.next() % 3) as u8).collect();
        self.put(&format!("{name}.scale"), Dtype::F8_E8M0, &[rows, cols], bytes);
    }

    fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.insert(name.into(), Stored { dtype, shape: shape.into(), bytes });
    }

    fn uniform(&mut self, shape: &[usize]) -> impl Iterator<Item = f32> {
        (0..shape.iter().product()).map(|_| ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) / 10.0)
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

fn config(sizes: &Sizes) -> String {
    let Sizes { hidden, vocab, experts, expert_ff, ratios, .. } = sizes;
    let (layers, ratios) = (ratios.len(), [ratios.as_slice(), &[0]].concat());
    format!(
        r#"{{
"architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "torch_dtype": "bfloat16",
"vocab_size": {vocab}, "hidden_size": {hidden}, "moe_intermediate_size": {expert_ff},
"num_hidden_layers": {layers}, "num_nextn_predict_layers": 1, "compress_ratios": {ratios:?},
"num_attention_heads": {HEADS}, "num_key_value_heads": 1, "head_dim": {HEAD_DIM}, "qk_rope_head_dim": 32,
"q_lora_rank": {Q_RANK}, "o_groups": {OUT_GROUPS}, "o_lora_rank": {OUT_RANK}, "sliding_window": 16,
"index_n_heads": {INDEX_HEADS}, "index_head_dim": {INDEX_DIM}, "index_topk": 8,
"n_routed_experts": {experts}, "n_shared_experts": 1, "num_experts_per_tok": {EXPERTS_USED}, "num_hash_layers": 1,
"routed_scaling_factor": 1.5, "scoring_func": "sqrtsoftplus", "swiglu_limit": 10.0,
"hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6,
"rope_theta": 10000, "compress_rope_theta": 160000, "max_position_embeddings": 1048576,
"rope_scaling": {{"type": "yarn", "factor": 16, "beta_fast": 32, "beta_slow": 1,
  "original_max_position_embeddings": 65536}},
"expert_dtype": "fp4",
"quantization_config": {{"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}}
}}"#
    )
}
