#!/usr/bin/env python3
"""Writes synth_payloads.txt: parts of the payloads of a synthetic V4 Flash (256 experts, seed 1) as `name offset hex`.

A second implementation of what `ds4_lab::synth` makes, on the standard library alone: Python's own integers for the
stream, `struct` for every rounding to f32 and f16. The lines were compared with those of a third one, on NumPy.
"""
import math
import pathlib
import struct

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def word(name, i, seed=1):
    state = 1469598103934665603
    for byte in name.encode():
        state = (state ^ byte) * 1099511628211 & MASK
    x = ((state ^ seed * GOLDEN & MASK) + (i + 1) * GOLDEN) & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def blocks(size, places, d):
    """Random blocks of `size` bytes with an f16 scale at each of `places`, given in units of `d`."""

    def change(raw):
        for start in range(0, len(raw), size):
            for place, unit in places:
                at = start + place
                r = int.from_bytes(raw[at : at + 2], "little") & 0x7FFF
                raw[at : at + 2] = struct.pack("<e", f32(f32(unit * d) * (0.75 + r / 65536)))
            if size == 34:
                for at in range(start + 2, start + size):
                    raw[at] = 0x81 if raw[at] == 0x80 else raw[at]

    return change


def f16s(rms):
    def change(raw):
        for at in range(0, len(raw), 2):
            u = int.from_bytes(raw[at : at + 2], "little") / 65536
            raw[at : at + 2] = struct.pack("<e", f32((2 * u - 1) * f32(math.sqrt(3) * rms)))

    return change


def f32s(rms, mean):
    def change(raw):
        for at in range(0, len(raw), 4):
            u = int.from_bytes(raw[at : at + 4], "little") / 2**32
            raw[at : at + 4] = struct.pack("<f", mean + (2 * u - 1) * (math.sqrt(3) * rms))

    return change


def payload(name, change, offset, length):
    words = range(offset // 8, (offset + length + 7) // 8)
    raw = bytearray(b"".join(struct.pack("<Q", word(name, i)) for i in words)[:length])
    change(raw)
    return raw


def table(name, offset, length):
    entries = []
    for row in range(offset // 24, (offset + length) // 24):
        w = word(name, row)
        entries += [(w % 256 + k * ((w >> 32) % 128 * 2 + 1)) % 256 for k in range(6)]
    return struct.pack(f"<{len(entries)}i", *entries)


IQ2_XXS = blocks(66, [(0, 1)], 1.5 / 64 / 62.0)
Q2_K = blocks(84, [(80, 1), (82, 1.5)], 1 / math.sqrt(2048) / 13.9)
Q8_0 = blocks(34, [(0, 1)], 3.0 / 64 / 73.6)
# The second part of a tensor lies across the end of a block-aligned megabyte or so, where other generators cut.
PARTS = [
    ("blk.0.ffn_gate_exps.weight", IQ2_XXS, 0, 2112),
    ("blk.0.ffn_gate_exps.weight", IQ2_XXS, 2162688 - 528, 1056),
    ("blk.0.ffn_down_exps.weight", Q2_K, 0, 2016),
    ("blk.0.ffn_down_exps.weight", Q2_K, 2752512 - 672, 1344),
    ("output.weight", Q8_0, 0, 2176),
    ("output.weight", Q8_0, 1114112 - 544, 1088),
    ("token_embd.weight", f16s(1.0), 0, 2048),
    ("token_embd.weight", f16s(1.0), 1048576 - 512, 1024),
    ("blk.0.hc_attn_fn.weight", f16s(1 / 128), 0, 1024),
    ("output_norm.weight", f32s(0.1, 1.0), 0, 1024),
    ("blk.3.exp_probs_b.bias", f32s(0.05, 0.0), 0, 1024),
    ("output_hc_scale.weight", f32s(0.01, 0.5), 0, 4),
    ("blk.0.ffn_gate_tid2eid.weight", None, 0, 2040),
    ("blk.0.ffn_gate_tid2eid.weight", None, 24 * 129270, 240),
]
lines = []
for name, change, offset, length in PARTS:
    part = payload(name, change, offset, length) if change else table(name, offset, length)
    lines.append(f"{name} {offset} {part.hex()}\n")
pathlib.Path(__file__).with_suffix(".txt").write_text("".join(lines))
