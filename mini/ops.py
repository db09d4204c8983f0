"""Operations with hand-written gradients: what a plain graph would do in many passes over memory.

`streams.c` holds the hyper-connection kernels; it is compiled with gcc on first use.
"""
import ctypes
import hashlib
import os
import pathlib
import subprocess
import tempfile

import torch


def _compile():
    source = pathlib.Path(__file__).with_name("streams.c")
    name = f"v4-mini-streams-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    library = pathlib.Path(tempfile.gettempdir()) / name
    if not library.exists():
        part = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", part, source], check=True)
        part.rename(library)
    return ctypes.CDLL(str(library))


KERNELS = _compile()
KINDS = {torch.Tensor: lambda a: ctypes.c_void_p(a.data_ptr()), float: ctypes.c_float, int: ctypes.c_long}


def call(kernel, *args):
    """Calls a C function; tensors must be contiguous float32."""
    getattr(KERNELS, kernel)(*(KINDS[type(a)](a) for a in args))


def full_precision(method):
    """Runs a method outside autocast: the residual streams and what mixes them stay f32."""
    def wrapped(self, x, *rest):
        with torch.autocast("cpu", enabled=False):
            return method(self, x, *rest)
    return wrapped


class Rms(torch.autograd.Function):
    """x / sqrt(mean(x²) + eps) over the last dimension."""

    @staticmethod
    def forward(ctx, x, eps):
        x = x.float()
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, g):
        y, r = ctx.saved_tensors
        return (g - y * (torch.linalg.vecdot(g, y).unsqueeze(-1) / y.shape[-1])).mul_(r), None


class Rope(torch.autograd.Function):
    """Rotates interleaved pairs in the trailing channels by the angles of `cis`."""

    @staticmethod
    def turn(x, cis):
        y = x.float().clone(memory_format=torch.contiguous_format)
        torch.view_as_complex(y[..., -2 * cis.shape[-1]:].unflatten(-1, (-1, 2))).mul_(cis)
        return y

    @staticmethod
    def forward(ctx, x, cis):
        ctx.cis = cis
        return Rope.turn(x, cis)

    @staticmethod
    def backward(ctx, g):
        return Rope.turn(g, ctx.cis.conj()), None


class Sinkhorn(torch.autograd.Function):
    """Alternating column and row normalisation. c [4, 4, N] (row, column, token), soft-maxed over columns."""

    @staticmethod
    def forward(ctx, c, iterations, eps):
        ctx.args, y = (iterations, eps), torch.empty_like(c)
        ctx.save_for_backward(c)
        call("sinkhorn_fwd", c, y, c.shape[2], iterations, eps)
        return y

    @staticmethod
    def backward(ctx, g):
        (c,) = ctx.saved_tensors
        out = torch.empty_like(c)
        call("sinkhorn_bwd", c, g.contiguous(), out, c.shape[2], *ctx.args)
        return out, None, None


class Merge(torch.autograd.Function):
    """X'[k] = post[k]·y + Σ_j comb[j][k]·X[j]. x [N, 4, D], y [N, D], post [N, 4], comb [N, 4, 4] (source, target)."""

    @staticmethod
    def forward(ctx, x, y, post, comb):
        x, y, post, comb = x.contiguous(), y.contiguous(), post.contiguous(), comb.contiguous()
        ctx.save_for_backward(x, y, post, comb)
        out = torch.empty_like(x)
        call("merge_fwd", x, y, post, comb, out, x.shape[0], x.shape[2])
        return out

    @staticmethod
    def backward(ctx, g):
        saved = ctx.saved_tensors
        out = [torch.empty_like(v) for v in saved]
        call("merge_bwd", *saved, g.contiguous(), *out, saved[0].shape[0], saved[0].shape[2])
        return tuple(out)


class Mix(torch.autograd.Function):
    """u = Σ_s w[s]·x[s]. x [N, 4, D], w [N, 4]."""

    @staticmethod
    def forward(ctx, x, w):
        x, w = x.contiguous(), w.contiguous()
        ctx.save_for_backward(x, w)
        u = x.new_empty(x.shape[0], x.shape[2])
        call("mix_fwd", x, w, u, x.shape[0], x.shape[2])
        return u

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx, gw = torch.empty_like(x), torch.empty_like(w)
        call("mix_bwd", x, w, g.contiguous(), gx, gw, x.shape[0], x.shape[2])
        return gx, gw


class StreamNorm(torch.autograd.Function):
    """1 / sqrt(mean(flat²) + eps), [N, 1]."""

    @staticmethod
    def forward(ctx, flat, eps):
        r = (torch.linalg.vector_norm(flat, dim=-1, keepdim=True).square_() / flat.shape[1] + eps).rsqrt_()
        ctx.save_for_backward(flat, r)
        return r

    @staticmethod
    def backward(ctx, g):
        flat, r = ctx.saved_tensors
        return flat * (g * r**3 / -flat.shape[1]), None


class SinkSoftmax(torch.autograd.Function):
    """Softmax over [scores, sink] without the sink's column. scores [B, H, T, K], mask true = visible, sink [H]."""

    @staticmethod
    def forward(ctx, s, mask, sink):
        s = s.masked_fill(~mask, float("-inf"))
        sink = sink.view(1, -1, 1, 1)
        m = torch.maximum(s.amax(-1, keepdim=True), sink)
        e = s.sub_(m).exp_()
        p = e.div_(e.sum(-1, keepdim=True) + (sink - m).exp())
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, g):
        (p,) = ctx.saved_tensors
        dot = (g * p).sum(-1, keepdim=True)
        rest = 1.0 - p.sum(-1, keepdim=True)
        return (g - dot).mul_(p), None, -(rest * dot).sum((0, 2, 3))


rope = Rope.apply


def rms(x, weight=None, eps=1e-6):
    """RMS norm in f32."""
    y = Rms.apply(x, eps)
    return y if weight is None else y * weight
