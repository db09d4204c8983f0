//! A model's GGUF metadata.

use std::path::Path;

use ds4_gguf::{File, Header, Writer};
use ds4_model::Shape;
use ds4_tokenizer::Vocabulary;

use super::Error;

/// Drafting blocks that get an entry in the list of ratios; the reader refuses more than 16.
const MOST_MTP_BLOCKS: usize = 16;

/// Refuses a shape that the engine would refuse, before anything is written: it must survive being read back.
pub(super) fn check(shape: &Shape, config: &Path) -> Result<(), Error> {
    let name = config.to_string_lossy();
    let bytes = Writer::begin(&name, Vec::new(), &header(shape, 0))?.finish()?;
    Shape::from_file(&File::from_bytes(&name, bytes)?)?;
    Ok(())
}

/// The metadata of a model of `shape`, without a tokenizer.
pub(super) fn header(shape: &Shape, file_type: u32) -> Header {
    let mut h = Header::new();
    h.str("general.architecture", "deepseek4").str("general.name", &shape.name);
    h.u32("general.file_type", file_type).u32("general.quantization_version", 2);
    sizes(&mut h, shape);
    constants(&mut h, shape);
    h
}

fn sizes(h: &mut Header, s: &Shape) {
    for (key, size) in [
        ("block_count", s.layers()),
        ("context_length", s.context_length as usize),
        ("embedding_length", s.hidden),
        ("vocab_size", s.vocab),
        ("attention.head_count", s.heads),
        ("attention.head_count_kv", 1),
        ("attention.key_length", s.head_dim),
        ("attention.value_length", s.head_dim),
        ("attention.q_lora_rank", s.q_rank),
        ("attention.output_lora_rank", s.out_rank),
        ("attention.output_group_count", s.out_groups),
        ("attention.sliding_window", s.window),
        ("attention.indexer.head_count", s.index_heads),
        ("attention.indexer.key_length", s.index_dim),
        ("attention.indexer.top_k", s.index_top_k),
        ("rope.dimension_count", s.rope_dim),
        ("rope.scaling.original_context_length", s.yarn.original_context as usize),
        ("expert_count", s.experts),
        ("expert_used_count", s.experts_used),
        ("expert_shared_count", 1),
        ("expert_feed_forward_length", s.expert_ff),
        ("expert_gating_func", 4),
        ("hash_layer_count", s.hash_layers),
        ("nextn_predict_layers", s.mtp_blocks),
        ("hyper_connection.count", Shape::STREAMS),
        ("hyper_connection.sinkhorn_iterations", s.sinkhorn_iterations),
    ] {
        h.u32(&format!("deepseek4.{key}"), size as u32);
    }
}

fn constants(h: &mut Header, s: &Shape) {
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", s.rms_eps),
        ("attention.compress_rope_freq_base", s.compress_rope_base),
        ("hyper_connection.epsilon", s.hc_eps),
        ("expert_weights_scale", s.expert_scale),
        ("rope.freq_base", s.rope_base),
        ("rope.scaling.factor", s.yarn.factor),
        ("rope.scaling.yarn_beta_fast", s.yarn.beta_fast),
        ("rope.scaling.yarn_beta_slow", s.yarn.beta_slow),
    ] {
        h.f32(&format!("deepseek4.{key}"), value);
    }
    // The published files list the drafting block's ratio after the layers'.
    let drafting = std::iter::repeat_n(&0, s.mtp_blocks.min(MOST_MTP_BLOCKS));
    let ratios = s.ratios.iter().chain(drafting).map(|r| *r as i32);
    h.i32s("deepseek4.attention.compress_ratios", ratios.collect());
    h.f32s("deepseek4.swiglu_clamp_exp", s.swiglu_clamp.clone());
    h.bool("deepseek4.expert_weights_norm", true);
    h.str("deepseek4.rope.scaling.type", "yarn");
}

/// Adds the tokenizer.
pub(super) fn add_vocabulary(h: &mut Header, v: &Vocabulary) {
    h.str("tokenizer.ggml.model", "gpt2").str("tokenizer.ggml.pre", "joyai-llm");
    h.strs("tokenizer.ggml.tokens", &v.tokens);
    h.i32s("tokenizer.ggml.token_type", v.types.iter().map(|t| *t as i32).collect());
    h.strs("tokenizer.ggml.merges", &v.merges);
    h.u32("tokenizer.ggml.bos_token_id", v.bos).u32("tokenizer.ggml.eos_token_id", v.eos);
    if let Some(pad) = v.pad {
        h.u32("tokenizer.ggml.padding_token_id", pad);
    }
    h.bool("tokenizer.ggml.add_bos_token", false).bool("tokenizer.ggml.add_eos_token", false);
}
