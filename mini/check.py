"""Checks the hand-written kernels and their gradients against plain tensor operations."""
import torch

from ops import Merge, Mix, Rms, Sinkhorn, SinkSoftmax, StreamNorm

TOLERANCE = 2e-5


def plain_sinkhorn(c, iterations, eps):
    c = c + eps
    for i in range(2 * iterations - 1):
        c = c / (c.sum(i & 1, keepdim=True) + eps)
    return c


def plain_sink_softmax(s, mask, sink):
    s = torch.cat((s.masked_fill(~mask, -torch.inf), sink.view(1, -1, 1, 1).expand(*s.shape[:-1], 1)), -1)
    return s.softmax(-1)[..., :-1]


def cases(n):
    """name, ours, plain, inputs."""
    streams, y, post, comb = torch.randn(n, 4, 64), torch.randn(n, 64), torch.randn(n, 4), torch.randn(n, 4, 4)
    yield "sinkhorn", lambda c: Sinkhorn.apply(c, 20, 1e-6), lambda c: plain_sinkhorn(c, 20, 1e-6), [torch.rand(4, 4, n)]
    yield ("merge", Merge.apply, lambda x, y, p, c: torch.einsum("njk,njd->nkd", c, x) + p[..., None] * y[:, None],
           [streams, y, post, comb])
    yield "mix", Mix.apply, lambda x, w: (w[..., None] * x).sum(1), [streams, post]
    yield ("stream norm", lambda x: StreamNorm.apply(x, 1e-6),
           lambda x: (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt(), [streams.flatten(1)])
    yield "rms", lambda x: Rms.apply(x, 1e-6), lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt(), [y]
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    yield ("sink softmax", lambda s, k: SinkSoftmax.apply(s, mask, k), lambda s, k: plain_sink_softmax(s, mask, k),
           [torch.randn(2, 4, n, n), torch.randn(4)])


def main():
    torch.manual_seed(0)
    for n in (1, 17, 100):
        for name, ours, plain, inputs in cases(n):
            a = [x.clone().requires_grad_() for x in inputs]
            b = [x.clone().requires_grad_() for x in inputs]
            got, want = ours(*a), plain(*b)
            seed = torch.randn_like(want)
            got.backward(seed)
            want.backward(seed)
            error = max(float((x - y).abs().max()) for x, y in [(got, want), *((p.grad, q.grad) for p, q in zip(a, b))])
            assert error < TOLERANCE, f"{name}, {n} tokens: {error}"
            print(f"{name}, {n} tokens: {error:.1e}")


if __name__ == "__main__":
    main()
