"""Trains V4-mini on the CPU: python train.py --out RUN --tokens 10.

Two processes share the parameters. A step has four micro-batches; each process takes the next one, so that a busy core
holds up nothing, and the gradients are added in the order of the micro-batches, so that a run repeats and resumes to
the same bits whoever computed what. Batches follow from the seed and the step's number.
"""
import argparse
import ctypes
import json
import pathlib
import random
import time
from collections import Counter

import torch
import torch.multiprocessing as mp
from tokenizers import Tokenizer

import data
from config import Config
from model import V4Mini
from muon import optimisers

HERE = pathlib.Path(__file__).parent
PARTS, PART_TOKENS = 4, 1024
WARM_UP, DECAY_FROM, ROUND_FROM, SELECT_FROM = 40, 0.50, 0.85, 0.50


def keep_memory():
    """Tells malloc to keep what is freed: fresh pages for every tensor would double the time of a step."""
    for option, value in ((-3, 32 << 20), (-1, 2**31 - 1), (-2, 64 << 20)):
        ctypes.CDLL(None).mallopt(option, value)


def balanced_table(counts, experts, k, seed=0):
    """Token -> k distinct experts, greedy on frequency, so that hash-routed layers are balanced from the start."""
    jitter = torch.rand(len(counts), experts, generator=torch.Generator().manual_seed(seed))
    jitter *= 1e-3 * float(counts.sum()) / experts
    load, table = torch.zeros(experts), torch.zeros(len(counts), k, dtype=torch.long)
    for token in counts.argsort(descending=True).tolist():
        table[token] = (load + jitter[token]).topk(k, largest=False).indices
        load[table[token]] += counts[token]
    return table


def new_model(rows, vocab):
    torch.manual_seed(0)
    model = V4Mini(Config(vocab_size=vocab)).train()
    counts = Counter(i for s in range(40) for i in rows.batch(f"count {s}", 8192, 512, s % 3 == 0)[0].flatten().tolist())
    counts = torch.tensor([counts.get(i, 0) + 1e-3 for i in range(vocab)], dtype=torch.float32)
    model.set_hash_table(balanced_table(counts, model.cfg.n_routed_experts, model.cfg.num_experts_per_tok))
    return model


class Shared:
    """What the processes have in common: gradients and router loads of each part, and who does what."""

    def __init__(self, model):
        self.size = sum(p.numel() for p in model.parameters())
        routers = len(model.routers())
        self.gradients = torch.zeros(PARTS, self.size).share_memory_()
        self.loads = torch.zeros(PARTS, routers, model.cfg.n_routed_experts).share_memory_()
        self.losses = torch.zeros(PARTS, 2).share_memory_()
        self.next, self.barrier = mp.Value("i", 0), mp.Barrier(2)

    def take(self):
        with self.next.get_lock():
            self.next.value += 1
            return self.next.value - 1


def batches(rows, seed, step, progress):
    """The parts of a step: (ids, weights) each."""
    out = []
    for part in range(PARTS):
        r = random.Random(f"{seed} plan {step} {part}")
        length, tooled = data.plan(r, progress)
        out.append(rows.batch(f"{seed} {step} {part}", PART_TOKENS, length, tooled))
    return out


def gradients(model, rows, shared, args, step, progress):
    """Computes the parts that nobody has taken yet."""
    model.dense, model.rounded = progress < SELECT_FROM, progress >= ROUND_FROM
    parts = batches(rows, args.seed, step, progress)
    total = sum(w[:, 1:].clamp_min(0).sum() for _, w in parts)
    while (part := shared.take()) < PARTS:
        model.zero_grad(set_to_none=True)
        ids, weights = parts[part]
        loss, nll = model.loss(ids, weights, total)
        loss.backward()
        torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()],
                  out=shared.gradients[part])
        shared.losses[part] = torch.stack((nll, total))
        for i, router in enumerate(model.routers()):
            shared.loads[part, i] = router.load
            router.load.zero_()


def update(model, shared, optimisers, scale):
    """One process's share of the step; `scale` is the schedule's factor."""
    total = shared.gradients.sum(0)
    total *= min(1.0, 1.0 / (float(total.norm()) + 1e-6))
    for p, g in zip(model.parameters(), total.split([p.numel() for p in model.parameters()])):
        p.grad = g.view_as(p)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * scale
        optimiser.step()


def schedule(step, progress):
    """Warm-up, flat, then linear to 2 %."""
    return min(1.0, (step + 1) / WARM_UP) * (1.0 if progress < DECAY_FROM else max(0.02, (1 - progress) / (1 - DECAY_FROM)))


def prepare(rank, model, args):
    """This process's optimisers, and where their state is kept."""
    torch.set_num_threads(1)
    for router in model.routers():
        router.load = torch.zeros_like(router.load)           # counted by each process for itself
    mine = optimisers(model, args.lr, rank)
    state = pathlib.Path(args.out) / f"optimiser{rank}.pt"
    for optimiser, saved in zip(mine, torch.load(state) if args.start else ()):
        optimiser.load_state_dict(saved)
    for group in (group for optimiser in mine for group in optimiser.param_groups):
        group["base"] = args.lr
    return mine, state


def run(rank, model, shared, args, each_step):
    """The loop that both processes run. `each_step(step, progress)` is called in process 0 after an update."""
    keep_memory()
    mine, state = prepare(rank, model, args)
    rows = data.Rows(Tokenizer.from_file(str(HERE / "tokenizer.json")))
    for step in range(args.start, args.steps):
        progress = step / args.steps
        gradients(model, rows, shared, args, step, progress)
        shared.barrier.wait()
        if rank == 0:
            shared.next.value = 0
        update(model, shared, mine, schedule(step, progress))
        shared.barrier.wait()
        if rank == 0:
            each_step(step, progress)
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            torch.save([optimiser.state_dict() for optimiser in mine], state)
            if rank == 0:
                torch.save(dict(step=step + 1, model=model.state_dict()), pathlib.Path(args.out) / "model.pt")
        shared.barrier.wait()


@torch.no_grad()
def accuracy(model, tokenizer, skill, count):
    """Share of held-out answers that greedy decoding gives: every argmax along the true answer must be right."""
    right = 0
    for prompt, answer in data.held_out(skill, count):
        p = tokenizer.encode(prompt, add_special_tokens=False).ids
        a = tokenizer.encode(answer, add_special_tokens=False).ids + [1]
        guess = model.logits(torch.tensor([p + a[:-1]]))[0, len(p) - 1:].argmax(-1)
        right += guess.tolist() == a
    return right / count


class Log:
    """Writes RUN/log.jsonl: the loss, and skills from time to time."""

    def __init__(self, model, shared, args):
        self.model, self.shared, self.args, self.began = model, shared, args, time.time()
        self.losses, self.tokenizer = [], Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.file = open(pathlib.Path(args.out) / "log.jsonl", "a", buffering=1)

    def __call__(self, step, progress):
        nll = float(self.shared.losses[:, 0].sum() / self.shared.losses[0, 1])
        worst = self.model.balance(self.shared.loads.sum(0), 1e-2 if progress < 0.7 else 1e-3)
        self.losses.append(nll)
        if (step + 1) % 25:
            return
        done = step + 1 - self.args.start
        row = dict(step=step + 1, tokens=(step + 1) * PARTS * PART_TOKENS, loss=round(sum(self.losses) / len(self.losses), 4),
                   load=round(worst, 2), rate=round(done * PARTS * PART_TOKENS / (time.time() - self.began)))
        self.losses.clear()
        if (step + 1) % self.args.test_every == 0:
            self.model.eval()
            row |= {skill: round(accuracy(self.model, self.tokenizer, skill, 30), 2) for skill in data.SKILLS}
            self.model.train()
        print(json.dumps(row), flush=True)
        self.file.write(json.dumps(row) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder of the run; an interrupted one continues")
    parser.add_argument("--tokens", type=float, default=10, help="millions to train on")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--test-every", type=int, default=200, help="steps between tests of the skills")
    args = parser.parse_args()
    args.steps = int(args.tokens * 1e6 / (PARTS * PART_TOKENS))
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    model, args.start = new_model(data.Rows(tokenizer), tokenizer.get_vocab_size()), 0
    if (out / "model.pt").exists():
        saved = torch.load(out / "model.pt")
        model.load_state_dict(saved["model"])
        args.start = saved["step"]
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, steps {args.start} to {args.steps}", flush=True)
    model.share_memory()
    shared = Shared(model)
    other = mp.get_context("fork").Process(target=run, args=(1, model, shared, args, None), daemon=True)
    other.start()
    run(0, model, shared, args, Log(model, shared, args))
    other.join()
    model.save(out / "checkpoint")
    tokenizer.save(str(out / "checkpoint" / "tokenizer.json"))


if __name__ == "__main__":
    main()
