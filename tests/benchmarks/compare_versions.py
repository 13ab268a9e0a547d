"""Compares two builds of Carillon on this machine, in turns: attention, whole steps, a small model, and the start of
the program. Prints a Markdown table with the medians of each build and of the ratio new over old within one repeat.

    python3 tests/benchmarks/compare_versions.py ../before/build/carillon build/carillon --repeats 5

Both builds need `carillon` and `attention_benchmark`. All figures are speeds: more is better, and a ratio of 1 is no
difference. Every other repeat runs in reverse order, so a machine that slows down favours neither. Standard library
only.
"""

import argparse
import json
import os
import sys
import time

from cost import LARGE, SMALL
from runs import Failed, Runs, median


def attention(dtype, backward, length):
    return lambda runs: runs.carillon_attention(dtype, backward, length)["gflops"]


def step(geometry, length, sequences, dtype, recompute, steps):
    return lambda runs: runs.carillon_step(geometry, length, sequences, dtype, recompute, steps)["tokens"]


def start(runs):
    """Program starts per second, over twenty in a row."""
    begin = time.perf_counter()
    for _ in range(20):
        runs.child([runs.carillon, "rope", "model.head_dim=64", "rope.base=10000"])
    return 20 / (time.perf_counter() - begin)


MEASURES = {
    "attention forward, bfloat16, 8192, GFLOP/s": attention("bfloat16", False, 8192),
    "attention forward + backward, bfloat16, 8192, GFLOP/s": attention("bfloat16", True, 8192),
    "attention forward + backward, float32, 8192, GFLOP/s": attention("float32", True, 8192),
    "step, bfloat16, 2048, tokens/s": step(LARGE, 2048, 1, "bfloat16", "none", 4),
    "step, bfloat16, 8192, tokens/s": step(LARGE, 8192, 1, "bfloat16", "none", 3),
    "step, float32, 512, tokens/s": step(LARGE, 512, 1, "float32", "none", 5),
    "small model, float32, tokens/s": step(SMALL, 256, 64, "float32", "none", 6),
    "start-up, 1/s": start,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", help="keep every sample here")
    arguments = parser.parse_args()
    builds = {"old": Runs(arguments.old, arguments.threads, 3600), "new": Runs(arguments.new, arguments.threads, 3600)}
    kept = {}
    print("| measure | old | new | new / old, median | smallest | largest |\n|---|---|---|---|---|---|")
    for name, measure in MEASURES.items():
        if arguments.only not in name:
            continue
        samples = kept[name] = {"old": [], "new": []}
        try:
            for repeat in range(arguments.repeats):
                for build in ("old", "new") if repeat % 2 == 0 else ("new", "old"):
                    samples[build].append(measure(builds[build]))
        except Failed as error:
            print(f"| {name} | {error} | | | | |", flush=True)
            continue
        ratios = [new / old for old, new in zip(samples["old"], samples["new"])]
        print(f"| {name} | {median(samples['old']):.4g} | {median(samples['new']):.4g} | {median(ratios):.3f} "
              f"| {min(ratios):.3f} | {max(ratios):.3f} |", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
