//! A checkpoint's `config.json`.

use std::path::Path;

use ds4_gguf::printable;
use ds4_model::{Shape, Yarn};
use serde::Deserialize;

use super::decode::FP8_BLOCK;
use super::error::Error;
use super::source::read_limited;

/// Longest config.json that is read, bytes.
const LONGEST: u64 = 1 << 20;

/// The keys that matter, named as in transformers and in the official release.
#[derive(Deserialize)]
struct Config {
    vocab_size: u32,
    hidden_size: u32,
    moe_intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    head_dim: u32,
    qk_rope_head_dim: Option<u32>,
    partial_rotary_factor: Option<f64>,
    q_lora_rank: u32,
    o_groups: u32,
    o_lora_rank: u32,
    n_routed_experts: u32,
    num_experts_per_tok: u32,
    #[serde(default = "first_three")]
    num_hash_layers: u32,
    compress_ratios: Vec<u32>,
    index_n_heads: u32,
    index_head_dim: u32,
    index_topk: u32,
    sliding_window: u32,
    hc_sinkhorn_iters: u32,
    hc_eps: f32,
    rms_norm_eps: f32,
    rope_theta: f32,
    compress_rope_theta: f32,
    routed_scaling_factor: f32,
    swiglu_limit: f32,
    max_position_embeddings: u32,
    #[serde(default)]
    num_nextn_predict_layers: u32,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<Scaling>,
    quantization_config: Option<Quantization>,
    #[serde(default = "streams")]
    hc_mult: u32,
    #[serde(default = "one")]
    n_shared_experts: u32,
}

fn first_three() -> u32 {
    3
}

fn streams() -> u32 {
    Shape::STREAMS as u32
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
struct Quantization {
    weight_block_size: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct RopeParameters {
    compress: Scaling,
}

#[derive(Deserialize)]
struct Scaling {
    factor: f32,
    original_max_position_embeddings: u32,
    beta_fast: f32,
    beta_slow: f32,
}

/// The shape that a `config.json` describes.
pub fn shape_from_config(path: &Path, name: &str) -> Result<Shape, Error> {
    let text = read_limited(path, LONGEST)?;
    let config = serde_json::from_slice(&text).map_err(|e| printable(&e.to_string()));
    config.and_then(|c| shape(c, name)).map_err(|why| Error::Config(path.into(), why))
}

fn shape(c: Config, name: &str) -> Result<Shape, String> {
    let (found, layers) = (c.compress_ratios.len(), c.num_hidden_layers as usize);
    if found < layers {
        return Err(format!("compress_ratios has {found} entries, expected at least num_hidden_layers {layers}"));
    }
    for (key, found, expected) in [("hc_mult", c.hc_mult, streams()), ("n_shared_experts", c.n_shared_experts, one())] {
        if found != expected {
            return Err(format!("{key} is {found}; V4 has {expected}"));
        }
    }
    if let Some(block) = c.quantization_config.and_then(|q| q.weight_block_size)
        && block != [FP8_BLOCK as u32; 2]
    {
        return Err(format!("quantization_config.weight_block_size is {block:?}; V4 has [{FP8_BLOCK}, {FP8_BLOCK}]"));
    }
    let rotary = || c.partial_rotary_factor.map(|f| (f * f64::from(c.head_dim)).round() as u32);
    let Some(rope_dim) = c.qk_rope_head_dim.or_else(rotary) else {
        return Err("neither qk_rope_head_dim nor partial_rotary_factor".into());
    };
    let Some(scaling) = c.rope_parameters.map(|p| p.compress).or(c.rope_scaling) else {
        return Err("neither rope_parameters.compress nor rope_scaling".into());
    };
    Ok(Shape {
        name: name.into(),
        context_length: c.max_position_embeddings,
        hidden: c.hidden_size as usize,
        vocab: c.vocab_size as usize,
        heads: c.num_attention_heads as usize,
        head_dim: c.head_dim as usize,
        rope_dim: rope_dim as usize,
        q_rank: c.q_lora_rank as usize,
        out_groups: c.o_groups as usize,
        out_rank: c.o_lora_rank as usize,
        window: c.sliding_window as usize,
        ratios: c.compress_ratios[..layers].iter().map(|r| *r as usize).collect(),
        index_heads: c.index_n_heads as usize,
        index_dim: c.index_head_dim as usize,
        index_top_k: c.index_topk as usize,
        experts: c.n_routed_experts as usize,
        experts_used: c.num_experts_per_tok as usize,
        expert_ff: c.moe_intermediate_size as usize,
        hash_layers: c.num_hash_layers as usize,
        expert_scale: c.routed_scaling_factor,
        swiglu_clamp: vec![c.swiglu_limit; layers],
        sinkhorn_iterations: c.hc_sinkhorn_iters as usize,
        hc_eps: c.hc_eps,
        rms_eps: c.rms_norm_eps,
        rope_base: c.rope_theta,
        compress_rope_base: c.compress_rope_theta,
        yarn: Yarn {
            factor: scaling.factor,
            original_context: scaling.original_max_position_embeddings,
            beta_fast: scaling.beta_fast,
            beta_slow: scaling.beta_slow,
        },
        mtp_blocks: c.num_nextn_predict_layers as usize,
    })
}
