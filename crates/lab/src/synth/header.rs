//! Metadata and directory of a synthetic file.

use ds4_gguf::Header;
use ds4_model::Shape;
use ds4_tokenizer::Vocabulary;

use super::{Error, Plan, tensors};

impl Plan {
    /// Everything before the payloads. The order of the keys is part of what makes files of one plan byte-equal.
    ///
    /// # Errors
    /// A vocabulary of another size than the shape's.
    pub fn header(&self, vocabulary: &Vocabulary) -> Result<Header, Error> {
        let (tokens, vocab) = (vocabulary.tokens.len(), self.shape.vocab);
        if tokens != vocab {
            return Err(Error::Vocabulary { tokens, vocab });
        }
        let mut header = Header::new();
        header.str("general.architecture", "deepseek4").str("general.name", &self.shape.name);
        header.u32("general.alignment", 32).u32("general.file_type", self.recipe.file_type());
        header.u32("general.quantization_version", 2);
        sizes(&mut header, &self.shape);
        experts(&mut header, &self.shape);
        attention(&mut header, &self.shape);
        rotation(&mut header, &self.shape);
        tokenizer(&mut header, vocabulary);
        for tensor in tensors(&self.shape, self.recipe) {
            header.tensor(&tensor.name, &tensor.dims, tensor.format);
        }
        Ok(header)
    }
}

fn key(name: &str) -> String {
    format!("deepseek4.{name}")
}

fn u32s<const N: usize>(header: &mut Header, entries: [(&str, usize); N]) {
    for (name, size) in entries {
        header.u32(&key(name), size as u32); // the shape's sizes fit, the loader allows no larger ones
    }
}

fn sizes(header: &mut Header, s: &Shape) {
    u32s(
        header,
        [
            ("block_count", s.layers()),
            ("context_length", s.context_length as usize),
            ("embedding_length", s.hidden),
            ("vocab_size", s.vocab),
            ("attention.head_count", s.heads),
            ("attention.head_count_kv", 1),
            ("attention.key_length", s.head_dim),
            ("attention.value_length", s.head_dim),
            ("rope.dimension_count", s.rope_dim),
            ("attention.q_lora_rank", s.q_rank),
            ("attention.output_lora_rank", s.out_rank),
            ("attention.output_group_count", s.out_groups),
        ],
    );
}

fn experts(header: &mut Header, s: &Shape) {
    u32s(
        header,
        [
            ("expert_count", s.experts),
            ("expert_used_count", s.experts_used),
            ("expert_feed_forward_length", s.expert_ff),
            ("expert_shared_count", 1),
            ("hash_layer_count", s.hash_layers),
            ("expert_gating_func", 4),
        ],
    );
    header.f32(&key("expert_weights_scale"), s.expert_scale).bool(&key("expert_weights_norm"), true);
}

fn attention(header: &mut Header, s: &Shape) {
    u32s(
        header,
        [
            ("attention.sliding_window", s.window),
            ("attention.indexer.head_count", s.index_heads),
            ("attention.indexer.key_length", s.index_dim),
            ("attention.indexer.top_k", s.index_top_k),
            ("hyper_connection.count", Shape::STREAMS),
            ("hyper_connection.sinkhorn_iterations", s.sinkhorn_iterations),
        ],
    );
    header.f32(&key("hyper_connection.epsilon"), s.hc_eps);
    header.f32(&key("attention.layer_norm_rms_epsilon"), s.rms_eps);
    header.i32s(&key("attention.compress_ratios"), s.ratios.iter().map(|&r| r as i32).collect());
    header.f32(&key("attention.compress_rope_freq_base"), s.compress_rope_base);
    // Other engines want the shared expert's bound as well; the model has one for both.
    header.f32s(&key("swiglu_clamp_exp"), s.swiglu_clamp.clone());
    header.f32s(&key("swiglu_clamp_shexp"), s.swiglu_clamp.clone());
}

fn rotation(header: &mut Header, s: &Shape) {
    header.f32(&key("rope.freq_base"), s.rope_base);
    header.str(&key("rope.scaling.type"), "yarn").f32(&key("rope.scaling.factor"), s.yarn.factor);
    header.u32(&key("rope.scaling.original_context_length"), s.yarn.original_context);
    header.f32(&key("rope.scaling.yarn_beta_fast"), s.yarn.beta_fast);
    header.f32(&key("rope.scaling.yarn_beta_slow"), s.yarn.beta_slow);
}

fn tokenizer(header: &mut Header, v: &Vocabulary) {
    header.str("tokenizer.ggml.model", "gpt2").str("tokenizer.ggml.pre", "joyai-llm");
    header.strs("tokenizer.ggml.tokens", &v.tokens);
    header.i32s("tokenizer.ggml.token_type", v.types.iter().map(|&t| t as i32).collect());
    header.strs("tokenizer.ggml.merges", &v.merges);
    header.u32("tokenizer.ggml.bos_token_id", v.bos).u32("tokenizer.ggml.eos_token_id", v.eos);
    if let Some(pad) = v.pad {
        header.u32("tokenizer.ggml.padding_token_id", pad);
    }
    header.bool("tokenizer.ggml.add_bos_token", true).bool("tokenizer.ggml.add_eos_token", false);
}
