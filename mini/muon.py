"""The optimiser: Muon for the matrices inside the layers, AdamW for everything else.

Muon (Jordan et al., 2024; the model was trained with it too) replaces a matrix's momentum by the nearest
semi-orthogonal matrix, found by Newton-Schulz iterations in bf16. Its step is scaled to the size of an AdamW step
(0.2·sqrt(larger side)), so that one learning rate serves both.
"""
import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(m, steps=5):
    """m [batch, rows, cols] -> the nearest semi-orthogonal matrices, about."""
    a, b, c = COEFFICIENTS
    x = m.bfloat16()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT.contiguous() if tall else x
    for _ in range(steps):
        g = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(g, g, g, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Matrices [rows, cols], or stacks [experts, rows, cols]."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                by_shape.setdefault(p.shape[-2:], []).append((p, p.grad.lerp(m, group["momentum"])))
            for (rows, cols), items in by_shape.items():
                stack = torch.cat([u.reshape(-1, rows, cols) for _, u in items])
                steps = orthogonalise(stack).split([p.numel() // (rows * cols) for p, _ in items])
                for (p, _), u in zip(items, steps):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(u.view_as(p), alpha=-group["lr"] * 0.2 * max(rows, cols)**0.5)


def optimisers(model, lr, rank, weight_decay=0.05):
    """Muon and AdamW for every second parameter, so that two processes share the work of a step.

    Norms, sinks, biases, embeddings and hyper-connections do not decay.
    """
    matrices, decayed, plain = [], [], []
    for name, p in model.named_parameters():
        inside = "layers." in name and p.ndim > 1 and not any(s in name for s in ("_hc.", "position_bias", "mlp.gate."))
        if inside and min(p.shape[-2:]) >= 64:
            matrices.append(p)
        elif p.ndim > 1 and not any(s in name for s in ("embed", "_hc.", "hc_head", "position_bias")):
            decayed.append(p)
        else:
            plain.append(p)
    matrices.sort(key=lambda p: (p.shape[-2:], p.ndim))       # equal shapes beside each other: halves of equal work
    groups = [dict(params=decayed[rank::2], weight_decay=weight_decay), dict(params=plain[rank::2], weight_decay=0.0)]
    return [Muon(matrices[rank::2], lr, weight_decay=weight_decay),
            torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-10, fused=True)]
