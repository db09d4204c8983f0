//! A checkpoint's `config.json`.

use std::path::Path;

use ds4_model::{Shape, Yarn};
use serde::Deserialize;

use super::Error;

/// The keys that matter, named as in transformers and in the official release.
#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    moe_intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    head_dim: usize,
    qk_rope_head_dim: Option<usize>,
    partial_rotary_factor: Option<f64>,
    q_lora_rank: usize,
    o_groups: usize,
    o_lora_rank: usize,
    n_routed_experts: usize,
    num_experts_per_tok: usize,
    #[serde(default = "first_three")]
    num_hash_layers: usize,
    compress_ratios: Vec<usize>,
    index_n_heads: usize,
    index_head_dim: usize,
    index_topk: usize,
    sliding_window: usize,
    hc_sinkhorn_iters: usize,
    hc_eps: f32,
    rms_norm_eps: f32,
    rope_theta: f32,
    compress_rope_theta: f32,
    routed_scaling_factor: f32,
    swiglu_limit: f32,
    max_position_embeddings: u32,
    #[serde(default)]
    num_nextn_predict_layers: usize,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<Scaling>,
}

fn first_three() -> usize {
    3
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
    let bad = |why: String| Error::Config(path.into(), why);
    let text = std::fs::read_to_string(path).map_err(|e| Error::Io(path.into(), e))?;
    let c: Config = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    if c.compress_ratios.len() < c.num_hidden_layers {
        let (found, layers) = (c.compress_ratios.len(), c.num_hidden_layers);
        return Err(bad(format!("compress_ratios has {found} entries, expected at least num_hidden_layers {layers}")));
    }
    let rotary = || c.partial_rotary_factor.map(|f| (f * c.head_dim as f64).round() as usize);
    let Some(rope_dim) = c.qk_rope_head_dim.or_else(rotary) else {
        return Err(bad("neither qk_rope_head_dim nor partial_rotary_factor".into()));
    };
    let Some(scaling) = c.rope_parameters.map(|p| p.compress).or(c.rope_scaling) else {
        return Err(bad("neither rope_parameters.compress nor rope_scaling".into()));
    };
    Ok(Shape {
        name: name.into(),
        context_length: c.max_position_embeddings,
        hidden: c.hidden_size,
        vocab: c.vocab_size,
        heads: c.num_attention_heads,
        head_dim: c.head_dim,
        rope_dim,
        q_rank: c.q_lora_rank,
        out_groups: c.o_groups,
        out_rank: c.o_lora_rank,
        window: c.sliding_window,
        ratios: c.compress_ratios[..c.num_hidden_layers].to_vec(),
        index_heads: c.index_n_heads,
        index_dim: c.index_head_dim,
        index_top_k: c.index_topk,
        experts: c.n_routed_experts,
        experts_used: c.num_experts_per_tok,
        expert_ff: c.moe_intermediate_size,
        hash_layers: c.num_hash_layers,
        expert_scale: c.routed_scaling_factor,
        swiglu_clamp: vec![c.swiglu_limit; c.num_hidden_layers],
        sinkhorn_iterations: c.hc_sinkhorn_iters,
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
        mtp_blocks: c.num_nextn_predict_layers,
    })
}
