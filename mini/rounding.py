"""The rounding that stored rows go through, with straight-through gradients (docs/numerics.md 5 and 7)."""
import torch

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
E2M1_TIES = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])


def power_of_two_scale(amax, largest):
    """2^ceil(log2(amax / largest)), read from the f32 bits so that exact powers of two stay put."""
    bits = (amax * (1.0 / largest)).float().contiguous().view(torch.int32)
    exponent = (bits >> 23) + ((bits & 0x7FFFFF) != 0).int()
    return (exponent << 23).view(torch.float32)


def straight_through(x, rounded):
    """`rounded` forward, the gradient of `x` backward."""
    return x + (rounded.reshape(x.shape).to(x.dtype) - x).detach()


def fp8(x, block=64):
    """Key/value rows: e4m3 in blocks that share a power-of-two scale."""
    b = x.detach().float().unflatten(-1, (-1, min(block, x.shape[-1])))
    scale = power_of_two_scale(b.abs().amax(-1, keepdim=True).clamp_min(1e-4), 448.0)
    return straight_through(x, (b / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale)


def fp4(x, block=32):
    """Indexer rows: e2m1 in blocks of 32, ties to the even code."""
    b = x.detach().float().unflatten(-1, (-1, block))
    scale = power_of_two_scale(b.abs().amax(-1, keepdim=True).clamp_min(6 * 2.0**-126), 6.0)
    a = (b / scale).clamp(-6, 6)
    low, high = torch.bucketize(a.abs(), E2M1_TIES), torch.bucketize(a.abs(), E2M1_TIES, right=True)
    return straight_through(x, E2M1[torch.where(low % 2 == 0, low, high)] * a.sign() * scale)


def hadamard(x):
    """Walsh-Hadamard transform of the last dimension in natural order, normalised."""
    n, y, h = x.shape[-1], x, 1
    while h < n:
        y = y.reshape(*x.shape[:-1], n // (2 * h), 2, h)
        a, b = y[..., 0, :], y[..., 1, :]
        y, h = torch.stack((a + b, a - b), -2), 2 * h
    return y.reshape(x.shape) * n**-0.5
