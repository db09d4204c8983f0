"""The shape of V4-mini and how it is written down for transformers."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field

LAYER_TYPES = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


@dataclass
class Config:
    """Hyper-parameters, named as in transformers' `DeepseekV4Config`. Every row length is a multiple of 256."""

    vocab_size: int = 2048
    hidden_size: int = 256
    moe_intermediate_size: int = 256
    num_attention_heads: int = 4
    head_dim: int = 128
    qk_rope_head_dim: int = 64
    q_lora_rank: int = 256
    o_groups: int = 2
    o_lora_rank: int = 128
    n_routed_experts: int = 4
    num_experts_per_tok: int = 2
    num_hash_layers: int = 3
    compress_ratios: list[int] = field(default_factory=lambda: [0, 4, 128, 4, 128])
    index_n_heads: int = 8
    index_head_dim: int = 128
    index_topk: int = 64
    sliding_window: int = 128
    hc_mult: int = 4
    hc_sinkhorn_iters: int = 20
    hc_eps: float = 1e-6
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    compress_rope_theta: float = 160000.0
    yarn_factor: float = 16.0
    yarn_original: int = 65536
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    routed_scaling_factor: float = 1.5
    swiglu_limit: float = 10.0

    @staticmethod
    def from_hf(d: dict) -> "Config":
        """Reads a `config.json`."""
        keys = {k: d[k] for k in Config.__dataclass_fields__ if k in d}
        keys["compress_ratios"] = d["compress_ratios"][: d["num_hidden_layers"]]
        yarn = d["rope_parameters"]["compress"]
        return Config(**keys | dict(yarn_factor=yarn["factor"], yarn_original=yarn["original_max_position_embeddings"]))

    def to_hf(self) -> dict:
        """What transformers and `ds4 lab convert` read."""
        layers, part = len(self.compress_ratios), self.qk_rope_head_dim / self.head_dim
        yarn = dict(rope_type="yarn", factor=self.yarn_factor, original_max_position_embeddings=self.yarn_original,
                    beta_fast=self.yarn_beta_fast, beta_slow=self.yarn_beta_slow, rope_theta=self.compress_rope_theta,
                    partial_rotary_factor=part, attention_factor=1.0)
        own = {k: v for k, v in asdict(self).items() if not k.startswith("yarn")}
        return own | dict(
            model_type="deepseek_v4", architectures=["DeepseekV4ForCausalLM"], num_hidden_layers=layers,
            layer_types=[LAYER_TYPES[r] for r in self.compress_ratios],
            compress_rates={LAYER_TYPES[4]: 4, LAYER_TYPES[128]: 128},
            mlp_layer_types=["hash_moe" if i < self.num_hash_layers else "moe" for i in range(layers)],
            num_key_value_heads=1, n_shared_experts=1, scoring_func="sqrtsoftplus", norm_topk_prob=True,
            hidden_act="silu", max_position_embeddings=1048576, tie_word_embeddings=False, partial_rotary_factor=part,
            bos_token_id=0, eos_token_id=1, pad_token_id=None, num_nextn_predict_layers=0, attention_bias=False,
            initializer_range=0.02,
            rope_parameters=dict(main=dict(rope_type="default", rope_theta=self.rope_theta, partial_rotary_factor=part),
                                 compress=yarn))
