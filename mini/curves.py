"""Draws a run's loss and skills: python curves.py RUN mini/curves.svg."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import data


def main(run, out):
    lines = map(json.loads, (pathlib.Path(run) / "log.jsonl").read_text().splitlines())
    rows = list({row["step"]: row for row in lines}.values())  # a resumed run says some steps twice
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    left.plot([r["tokens"] / 1e6 for r in rows], [r["loss"] for r in rows])
    left.set(xlabel="tokens, millions", ylabel="loss", title="weighted cross-entropy", yscale="log")
    tested = [r for r in rows if "exact" in r]
    for skill in data.SKILLS:
        right.plot([r["tokens"] / 1e6 for r in tested], [100 * r[skill] for r in tested], label=skill)
    right.set(xlabel="tokens, millions", ylabel="right answers, %", title="held-out prompts", ylim=(-2, 102))
    right.legend(fontsize=8, ncol=2)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
