"""V4-mini for training: the architecture over whole sequences, without a cache.

Keys are [raw rows | compressed rows] and one mask says what each query sees. Parameter names are those of
transformers' `DeepseekV4ForCausalLM`, so an export loads there and in `ds4 lab convert`.
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

from config import Config
from ops import Merge, Mix, SinkSoftmax, Sinkhorn, StreamNorm, full_precision, rms, rope
from rounding import fp4, fp8, hadamard


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return rms(x, self.weight, self.eps)


class HyperConnection(nn.Module):
    """Reads a sub-layer's input from the four streams and writes its output back."""

    def __init__(self, cfg, index):
        super().__init__()
        s = self.s = cfg.hc_mult
        self.cfg = cfg
        self.fn = nn.Parameter(torch.randn((2 + s) * s, s * cfg.hidden_size) * 0.02)
        self.base, self.scale = nn.Parameter(torch.zeros((2 + s) * s)), nn.Parameter(torch.full((3,), 0.1))
        with torch.no_grad():                                 # start: read mostly one stream, write to all, keep all
            self.base[:s] = -2.0
            self.base[index % s] = 1.0
            self.base[2 * s:] = torch.eye(s).mul(4.0).flatten()

    @full_precision
    def forward(self, x):
        """x [N, 4, D] -> sub-layer input [N, D], post [N, 4], comb [N, 4, 4] (source, target)."""
        s, eps = self.s, self.cfg.hc_eps
        flat = x.flatten(1)
        m = F.linear(flat, self.fn) * StreamNorm.apply(flat, self.cfg.rms_norm_eps)
        pre = torch.sigmoid(m[:, :s] * self.scale[0] + self.base[:s]) + eps
        post = 2 * torch.sigmoid(m[:, s:2 * s] * self.scale[1] + self.base[s:2 * s])
        c = (m[:, 2 * s:] * self.scale[2] + self.base[2 * s:]).view(-1, s, s).softmax(-1)
        c = Sinkhorn.apply(c.permute(1, 2, 0).contiguous(), self.cfg.hc_sinkhorn_iters, eps)
        return Mix.apply(x, pre), post, c.permute(2, 0, 1).contiguous()

    @full_precision
    def merge(self, x, y, post, comb):
        return Merge.apply(x, y.float(), post, comb)


class HyperHead(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.hc_fn = nn.Parameter(torch.randn(cfg.hc_mult, cfg.hc_mult * cfg.hidden_size) * 0.02)
        self.hc_base, self.hc_scale = nn.Parameter(torch.zeros(cfg.hc_mult)), nn.Parameter(torch.full((1,), 0.1))

    @full_precision
    def forward(self, x):
        flat = x.flatten(1)
        g = StreamNorm.apply(flat, self.cfg.rms_norm_eps)
        return Mix.apply(x, torch.sigmoid(F.linear(flat, self.hc_fn) * g * self.hc_scale + self.hc_base) + self.cfg.hc_eps)


class Compressor(nn.Module):
    """Pools windows of `ratio` tokens into rows; ratio 4 overlaps with the window before."""

    def __init__(self, cfg, ratio, dim):
        super().__init__()
        self.ratio, self.dim, self.series = ratio, dim, 2 if ratio == 4 else 1
        self.kv_proj = linear(cfg.hidden_size, self.series * dim)
        self.gate_proj = linear(cfg.hidden_size, self.series * dim)
        self.position_bias = nn.Parameter(torch.zeros(ratio, self.series * dim))
        self.kv_norm = Norm(dim, cfg.rms_norm_eps)

    def pool(self, x, table):
        """x [B, T, D] -> rows [B, T / ratio, dim]; an incomplete last window gives none."""
        b, t, _ = x.shape
        n, r, d = t // self.ratio, self.ratio, self.dim
        x = x[:, :n * r]
        k = self.kv_proj(x).float().view(b, n, r, -1)
        s = self.gate_proj(x).float().view(b, n, r, -1) + self.position_bias
        if self.series == 2:
            k = torch.cat((F.pad(k[:, :-1, :, :d], (0, 0, 0, 0, 1, 0)), k[..., d:]), 2)
            s = torch.cat((F.pad(s[:, :-1, :, :d], (0, 0, 0, 0, 1, 0), value=float("-inf")), s[..., d:]), 2)
        return rope(self.kv_norm((k * s.softmax(2)).sum(2)), table[:n * r:r])


class Scorer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.weights_proj = linear(cfg.hidden_size, cfg.index_n_heads)


class Indexer(Compressor):
    """Scores compressed rows. Its inputs are detached: it learns only to predict where attention goes."""

    def __init__(self, cfg):
        super().__init__(cfg, 4, cfg.index_head_dim)
        self.heads = cfg.index_n_heads
        self.q_b_proj = linear(cfg.q_lora_rank, cfg.index_n_heads * cfg.index_head_dim)
        self.scorer = Scorer(cfg)

    def forward(self, x, qr, table, rounded):
        """-> scores [B, T, T / 4]."""
        b, t, _ = x.shape
        k = self.pool(x, table)
        q = rope(self.q_b_proj(qr).float().view(b, t, self.heads, self.dim), table[:t, None])
        if rounded:
            q, k = fp4(hadamard(q)), fp4(hadamard(k))
        w = self.scorer.weights_proj(x).float() * (self.heads * self.dim)**-0.5
        s = torch.relu(torch.bmm(q.flatten(1, 2), k.transpose(1, 2)).float()).view(b, t, self.heads, -1)
        return torch.matmul(w.unsqueeze(2), s).squeeze(2)


class Attention(nn.Module):
    def __init__(self, cfg, ratio):
        super().__init__()
        hidden, heads, d = cfg.hidden_size, cfg.num_attention_heads, cfg.head_dim
        self.cfg, self.ratio = cfg, ratio
        self.q_a_proj, self.q_a_norm = linear(hidden, cfg.q_lora_rank), Norm(cfg.q_lora_rank, cfg.rms_norm_eps)
        self.q_b_proj = linear(cfg.q_lora_rank, heads * d)
        self.kv_proj, self.kv_norm = linear(hidden, d), Norm(d, cfg.rms_norm_eps)
        self.o_a_proj = linear(heads * d // cfg.o_groups, cfg.o_groups * cfg.o_lora_rank)
        self.o_b_proj = linear(cfg.o_groups * cfg.o_lora_rank, hidden)
        self.sinks = nn.Parameter(torch.zeros(heads))
        if ratio:
            self.compressor = Compressor(cfg, ratio, d)
        if ratio == 4:
            self.compressor.indexer = Indexer(cfg)

    def forward(self, x, ctx):
        """x [B, T, D] -> output [B, T, D], the indexer's loss or None."""
        cfg, (b, t, _) = self.cfg, x.shape
        heads, d, r = cfg.num_attention_heads, cfg.head_dim, cfg.qk_rope_head_dim
        table = ctx["compress" if self.ratio else "main"]
        here = table[:t, None]
        qr = self.q_a_norm(self.q_a_proj(x))
        q = rope(rms(self.q_b_proj(qr).view(b, t, heads, d), None, cfg.rms_norm_eps), here)
        kv = rope(self.kv_norm(self.kv_proj(x)), table[:t])
        mask, score = ctx["window"], None
        if self.ratio and t >= self.ratio:
            rows = self.compressor.pool(x, table)
            kv = torch.cat((kv, rows), 1)
            visible = ctx["visible"][self.ratio][:, :rows.shape[1]].expand(b, t, -1)
            if self.ratio == 4:
                score = self.compressor.indexer(x.detach(), qr.detach(), table, ctx["rounded"])
                visible = self.select(score, visible, ctx["dense"])
            mask = torch.cat((mask.expand(b, t, t), visible), -1).unsqueeze(1)
        if ctx["rounded"]:
            kv = torch.cat((fp8(kv[..., :d - r]), kv[..., d - r:]), -1)
        qh = q.transpose(1, 2).reshape(b, heads * t, d)       # one key/value head: query heads become more queries
        s = torch.bmm(qh * d**-0.5, kv.transpose(1, 2)).float().view(b, heads, t, -1)
        p = SinkSoftmax.apply(s, mask, self.sinks)
        o = torch.bmm(p.view(b, heads * t, -1), kv).view(b, heads, t, d).transpose(1, 2)
        o = rope(o, here.conj()).reshape(b * t, cfg.o_groups, -1).transpose(0, 1)
        low = torch.bmm(o, self.o_a_proj.weight.view(cfg.o_groups, cfg.o_lora_rank, -1).transpose(1, 2)).transpose(0, 1)
        loss = indexer_loss(score, p[..., t:], visible, ctx["valid"]) if score is not None and ctx["training"] else None
        return self.o_b_proj(low.reshape(b, t, -1)), loss

    def select(self, score, visible, dense):
        """The top-k visible rows of each query."""
        k = self.cfg.index_topk
        if dense or visible.shape[-1] <= k:
            return visible
        top = score.detach().masked_fill(~visible, float("-inf")).topk(k, -1).indices
        return visible & torch.zeros_like(visible).scatter_(-1, top, True)


def indexer_loss(score, p, visible, valid):
    """KL(attention on the compressed rows, summed over heads and renormalised || softmax of the scores)."""
    target = p.detach().sum(1)
    mass = target.sum(-1, keepdim=True)
    target = target / (mass + 1e-9)
    log_q = score.masked_fill(~visible, -1e9).log_softmax(-1)
    kl = (torch.xlogy(target, target) - target * log_q).masked_fill(~visible, 0).sum(-1)
    weight = (mass.squeeze(-1) > 1e-4) & (visible.sum(-1) > 1) & valid
    return (kl * weight).sum() / weight.sum().clamp_min(1)


class Router(nn.Module):
    def __init__(self, cfg, hashed):
        super().__init__()
        self.cfg, self.hashed = cfg, hashed
        self.weight = nn.Parameter(torch.empty(cfg.n_routed_experts, cfg.hidden_size))
        if hashed:
            self.register_buffer("tid2eid", torch.zeros(cfg.vocab_size, cfg.num_experts_per_tok, dtype=torch.long))
        else:
            self.register_buffer("e_score_correction_bias", torch.zeros(cfg.n_routed_experts))
            self.register_buffer("load", torch.zeros(cfg.n_routed_experts), persistent=False)

    @full_precision
    def forward(self, x, ids):
        """x [N, D] -> experts [N, K], their weights [N, K]."""
        k = self.cfg.num_experts_per_tok
        p = F.softplus(F.linear(x.float(), self.weight)).sqrt()
        if self.hashed:
            chosen = self.tid2eid[ids]
        else:
            chosen = (p.detach() + self.e_score_correction_bias).topk(k, -1).indices
            if self.training:
                self.load += torch.bincount(chosen.flatten(), minlength=self.cfg.n_routed_experts)
        w = p.gather(1, chosen)
        return chosen, w / (w.sum(-1, keepdim=True) + 1e-20) * self.cfg.routed_scaling_factor


def swiglu(gate_up, limit):
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate.clamp(max=limit)) * up.clamp(-limit, limit)


class Experts(nn.Module):
    """Routed experts; tokens are sorted by expert, then each expert is three products."""

    def __init__(self, cfg):
        super().__init__()
        experts, hidden, width = cfg.n_routed_experts, cfg.hidden_size, cfg.moe_intermediate_size
        self.limit = cfg.swiglu_limit
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))

    def forward(self, x, chosen, weights):
        n, k = chosen.shape
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=self.gate_up_proj.shape[0]).tolist()
        inputs, scales = x[order // k].split(counts), weights.flatten()[order].unsqueeze(-1).split(counts)
        out = torch.cat([F.linear(swiglu(F.linear(a, self.gate_up_proj[e]), self.limit) * w, self.down_proj[e])
                         for e, (a, w) in enumerate(zip(inputs, scales)) if counts[e]])
        place = torch.empty_like(order).scatter_(0, order, torch.arange(n * k))
        return out[place].view(n, k, -1).float().sum(1)


class SharedExpert(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        hidden, width = cfg.hidden_size, cfg.moe_intermediate_size
        self.limit = cfg.swiglu_limit
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, width), linear(hidden, width), linear(width, hidden)

    def forward(self, x):
        return self.down_proj(swiglu(torch.cat((self.gate_proj(x), self.up_proj(x)), -1), self.limit))


class Mlp(nn.Module):
    def __init__(self, cfg, hashed):
        super().__init__()
        self.gate, self.experts, self.shared_experts = Router(cfg, hashed), Experts(cfg), SharedExpert(cfg)

    def forward(self, x, ids):
        return self.experts(x, *self.gate(x, ids)) + self.shared_experts(x)


class Layer(nn.Module):
    def __init__(self, cfg, index):
        super().__init__()
        self.attn_hc, self.ffn_hc = HyperConnection(cfg, 2 * index), HyperConnection(cfg, 2 * index + 1)
        self.input_layernorm = Norm(cfg.hidden_size, cfg.rms_norm_eps)
        self.post_attention_layernorm = Norm(cfg.hidden_size, cfg.rms_norm_eps)
        self.self_attn = Attention(cfg, cfg.compress_ratios[index])
        self.mlp = Mlp(cfg, index < cfg.num_hash_layers)

    def forward(self, streams, ids, ctx):
        """streams [N, 4, D], ids [N] -> streams, the indexer's loss or None."""
        u, post, comb = self.attn_hc(streams)
        y, loss = self.self_attn(self.input_layernorm(u).view(*ctx["shape"], -1), ctx)
        streams = self.attn_hc.merge(streams, y.reshape(u.shape), post, comb)
        u, post, comb = self.ffn_hc(streams)
        y = self.mlp(self.post_attention_layernorm(u), ids)
        return self.ffn_hc.merge(streams, y, post, comb), loss


class Body(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.layers = nn.ModuleList(Layer(cfg, i) for i in range(len(cfg.compress_ratios)))
        self.hc_head, self.norm = HyperHead(cfg), Norm(cfg.hidden_size, cfg.rms_norm_eps)


class V4Mini(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg, self.model, self.lm_head = cfg, Body(cfg), linear(cfg.hidden_size, cfg.vocab_size)
        self.dense, self.rounded = False, False               # no row selection; round rows as the engine does
        self._tables = {}
        self.initialise()

    @torch.no_grad()
    def initialise(self):
        """Projections by their fan-in, smaller where a sub-layer writes back."""
        deep = (2 * len(self.model.layers))**-0.5
        for name, p in self.named_parameters():
            if "norm" in name or "_hc." in name or "hc_head" in name or name.endswith(("sinks", "position_bias")):
                continue
            std = p.shape[-1]**-0.5
            if "embed_tokens" in name:
                std = 0.3
            elif name.endswith(("o_b_proj.weight", "down_proj", "down_proj.weight")):
                std *= deep
            elif name.endswith("lm_head.weight"):
                std *= 0.5
            nn.init.normal_(p, std=std)

    def set_hash_table(self, table):
        """table [vocab, K]: the experts of each token in the hash-routed layers."""
        for layer in self.model.layers[:self.cfg.num_hash_layers]:
            layer.mlp.gate.tid2eid.copy_(table)

    def tables(self, t):
        """Rotations and masks for sequences of t tokens."""
        if t not in self._tables:
            c, half = self.cfg, self.cfg.qk_rope_head_dim // 2
            i, pos = torch.arange(half, dtype=torch.float32), torch.arange(t)
            edge = lambda beta: half * math.log(c.yarn_original / (beta * 2 * math.pi)) / math.log(c.compress_rope_theta)
            low = max(math.floor(edge(c.yarn_beta_fast)), 0)
            high = min(math.ceil(edge(c.yarn_beta_slow)), 2 * half - 1)
            ramp = ((i - low) / max(high - low, 1e-3)).clamp(0, 1)
            compress = c.compress_rope_theta**(-i / half)
            compress = compress * (1 - ramp) + compress / c.yarn_factor * ramp
            turn = lambda f: torch.polar(torch.ones(t, half), pos[:, None].float() * f)
            q, k = pos[:, None], pos[None]
            self._tables[t] = dict(main=turn(c.rope_theta**(-i / half)), compress=turn(compress),
                                   window=(k <= q) & (k > q - c.sliding_window),
                                   visible={r: k[:, :t // r] < (q + 1) // r for r in (4, 128)})
        return self._tables[t]

    def hidden(self, ids, valid=None):
        """ids [B, T] -> final hidden states [B, T, D], the indexers' loss. Right padding is harmless: all is causal."""
        valid = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid
        ctx = dict(self.tables(ids.shape[1]), shape=ids.shape, valid=valid, dense=self.dense, rounded=self.rounded,
                   training=self.training)
        flat = ids.reshape(-1)
        streams = self.model.embed_tokens(flat).unsqueeze(1).expand(-1, self.cfg.hc_mult, -1).contiguous()
        losses = []
        for layer in self.model.layers:
            streams, loss = layer(streams, flat, ctx)
            losses += [] if loss is None else [loss]
        h = self.model.norm(self.model.hc_head(streams))
        return h.view(*ids.shape, -1), sum(losses) / len(losses) if losses else None

    def logits(self, ids):
        return self.lm_head(self.hidden(ids)[0])

    def loss(self, ids, weight, total, z=1e-4):
        """ids, weight [B, T + 1] (how much predicting that token counts; padding is negative); divided by `total`.

        -> the loss to minimise, the sum of weighted cross-entropies.
        """
        inputs, targets, w = ids[:, :-1], ids[:, 1:], weight[:, 1:]
        with torch.autocast("cpu", torch.bfloat16):
            h, index = self.hidden(inputs, w >= 0)
            at = w > 0
            logits = self.lm_head(h[at]).float()
        lse = logits.logsumexp(-1)
        nll = ((lse - logits.gather(1, targets[at][:, None]).squeeze(1)) * w[at]).sum()
        loss = (nll + z * (lse.square() * w[at]).sum()) / total
        return (loss if index is None else loss + index * (w[at].sum() / total)), nll.detach()

    @torch.no_grad()
    def balance(self, loads, rate):
        """Nudges each router's bias by the sign of its load error. loads: one tensor a router. -> worst max/mean."""
        worst = 0.0
        for router, load in zip(self.routers(), loads):
            mean = load.mean().clamp_min(1e-9)
            worst = max(worst, float(load.max() / mean))
            router.e_score_correction_bias += rate * torch.sign(mean - load)
            router.e_score_correction_bias -= router.e_score_correction_bias.mean()
        return worst

    def routers(self):
        return [layer.mlp.gate for layer in self.model.layers[self.cfg.num_hash_layers:]]

    def save(self, folder):
        """Writes a checkpoint in transformers' layout."""
        from safetensors.torch import save_file
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().clone().contiguous() for k, v in self.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.cfg.to_hf(), indent=1))
