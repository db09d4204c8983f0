"""Writes fixtures/mini-logits.safetensors: what transformers computes with the weights that are in v4-mini.gguf.

The file is read by ggml's own Python reader and handed to transformers in f32, so nothing of ds4 takes part. Of each
position 64 logits are kept. Positions at which a choice (experts, compressed rows) hangs on less than 1e-5 are listed:
there two right programs may differ.
"""
import json
import pathlib
import random
import sys
import tempfile

import gguf
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import DeepseekV4ForCausalLM

import data
from config import Config
from model import V4Mini

HERE = pathlib.Path(__file__).parent
TOKENS, COLUMNS, NARROW = 2048, 64, 1e-5

LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_norm", "attn_q_b": "self_attn.q_b_proj", "attn_kv": "self_attn.kv_proj",
    "attn_kv_a_norm": "self_attn.kv_norm", "attn_output_a": "self_attn.o_a_proj", "attn_output_b": "self_attn.o_b_proj",
    "ffn_gate_inp": "mlp.gate", "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj", "ffn_down_shexp": "mlp.shared_experts.down_proj",
    "attn_compressor_kv": "self_attn.compressor.kv_proj", "attn_compressor_gate": "self_attn.compressor.gate_proj",
    "attn_compressor_norm": "self_attn.compressor.kv_norm",
    "indexer_compressor_kv": "self_attn.compressor.indexer.kv_proj",
    "indexer_compressor_gate": "self_attn.compressor.indexer.gate_proj",
    "indexer_compressor_norm": "self_attn.compressor.indexer.kv_norm",
    "indexer.attn_q_b": "self_attn.compressor.indexer.q_b_proj",
    "indexer.proj": "self_attn.compressor.indexer.scorer.weights_proj",
}
BARE = {
    "attn_sinks.weight": "self_attn.sinks", "ffn_gate_tid2eid.weight": "mlp.gate.tid2eid",
    "exp_probs_b.bias": "mlp.gate.e_score_correction_bias", "ffn_down_exps.weight": "mlp.experts.down_proj",
    "attn_compressor_ape.weight": "self_attn.compressor.position_bias",
    "indexer_compressor_ape.weight": "self_attn.compressor.indexer.position_bias",
    **{f"hc_{sub}_{part}.weight": f"{sub}_hc.{part}" for sub in ("attn", "ffn") for part in ("fn", "base", "scale")},
}
TOP = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight", **{f"output_hc_{p}.weight": f"model.hc_head.hc_{p}" for p in ("fn", "base", "scale")},
}


def name_of(tensor):
    """A GGUF tensor's name in transformers; None for the gate and up experts, which are one tensor there."""
    if tensor in TOP:
        return TOP[tensor]
    _, layer, rest = tensor.split(".", 2)
    if rest in ("ffn_gate_exps.weight", "ffn_up_exps.weight"):
        return None
    name = BARE.get(rest) or LAYER[rest.removesuffix(".weight")] + ".weight"
    return f"model.layers.{layer}.{name}"


def weights(path):
    """All tensors of the file in f32, under transformers' names."""
    found = {t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()) if t.tensor_type.name != "I32"
             else torch.from_numpy(t.data.copy()).long() for t in gguf.GGUFReader(path).tensors}
    state = {name_of(k): v for k, v in found.items() if name_of(k)}
    for key, gate in found.items():
        if key.endswith("ffn_gate_exps.weight"):
            layer = key.split(".")[1]
            state[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = torch.cat((gate, found[key.replace("gate", "up")]), 1)
    return state


def tokens(tokenizer):
    """Conversations of all kinds, one after the other, as one long sequence."""
    rows, r, ids = data.Rows(tokenizer), random.Random("reference"), []
    for i in range(100):
        ids += rows.row(r, 512, i % 3 == 0)[0]
    return torch.tensor(ids[:TOKENS])


@torch.no_grad()
def narrow_places(state, config, ids):
    """Positions where the last thing chosen and the first not chosen differ by less than NARROW."""
    model = V4Mini(config).eval()
    model.load_state_dict(state)
    places = set()

    def gap(scores, k):
        top = scores.topk(min(k + 1, scores.shape[-1]), -1).values
        if top.shape[-1] > k:
            places.update(torch.nonzero((top[..., k - 1] - top[..., k]).abs() < NARROW).flatten().tolist())

    for router in model.routers():
        router.register_forward_hook(lambda m, args, _: gap(
            torch.nn.functional.softplus(args[0].float() @ m.weight.T).sqrt() + m.e_score_correction_bias,
            config.num_experts_per_tok))
    visible = model.tables(len(ids))["visible"][4]
    for layer in model.model.layers:
        if layer.self_attn.ratio == 4:
            layer.self_attn.compressor.indexer.register_forward_hook(lambda m, args, scores: gap(
                scores[0].masked_fill(~visible[:, :scores.shape[-1]], -torch.inf), config.index_topk))
    return model.logits(ids[None])[0], sorted(places)


def main(path, checkpoint):
    config = json.loads((pathlib.Path(checkpoint) / "config.json").read_text())
    state, ids = weights(path), tokens(Tokenizer.from_file(str(HERE / "tokenizer.json")))
    with tempfile.TemporaryDirectory() as folder:
        save_file({k: v.contiguous() for k, v in state.items()}, f"{folder}/model.safetensors", metadata={"format": "pt"})
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        reference = DeepseekV4ForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
    with torch.no_grad():
        logits = reference(ids[None], use_cache=False).logits[0]
    own, places = narrow_places(state, Config.from_hf(config), ids)
    print(f"trainer and transformers differ by at most {float((own - logits).abs().max()):.2e}; narrow choices at {places}")
    columns = torch.tensor(sorted(random.Random("columns").sample(range(logits.shape[1]), COLUMNS)))
    save_file(dict(ids=ids.int(), columns=columns.int(), logits=logits[:, columns].contiguous(), best=logits.argmax(-1).int(),
                   narrow=torch.tensor(places, dtype=torch.int32)),
              HERE.parent / "fixtures" / "mini-logits.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
