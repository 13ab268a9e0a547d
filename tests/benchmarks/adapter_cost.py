"""Measures the cost of an adapter: time and memory of a step of full fine-tuning, of a frozen base with LoRA of rank 16
on all linear layers, and of the same frozen base with a minimal adapter, in turns. Uses the geometry of SmolLM2-135M
with random weights and tokens. With --peer-python (a Python that has torch, transformers and peft) also measures PEFT
on PyTorch. Prints a Markdown table.

    python3 tests/benchmarks/adapter_cost.py --repeats 3 --peer-python .venv/bin/python

The minimal adapter (the floor) has rank 1 on q_proj alone. It still runs every product of the frozen base (forward,
recomputed and backward), so the additional cost of rank 16 is that of the adapter itself. Memory is the largest
resident size of the process. --quantization nf4,int8 adds runs with a quantised base. Standard library only.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile

from cost import LARGE, SMALL
from runs import GIB, Failed, Runs, median

FULL, ADAPTER, FLOOR = "every weight", "rank 16 on all linear layers", "floor: frozen, rank 1 on q_proj"
PEER_FULL, PEER = "PyTorch, every weight in bfloat16", "PEFT, rank 16 on all linear layers, autocast"


def candidates(runs, arguments, base):
    geometry, length = (SMALL if arguments.small else LARGE), arguments.length

    def carillon(adapter):
        return lambda: runs.carillon_step(geometry, length, 1, "bfloat16", arguments.recompute, arguments.steps, base, adapter)

    def peer(mode, rank):
        return lambda: runs.pytorch_step(geometry, length, 1, mode, arguments.peer_steps, checkpointing=True, rank=rank)

    found = {FULL: carillon(None), ADAPTER: carillon({"rank": arguments.rank}),
             FLOOR: carillon({"rank": 1, "target_modules": ["q_proj"]})}
    for kind in arguments.quantization:
        found[f"rank 16, base in {kind}"] = carillon({"rank": arguments.rank, "base_quantization": kind})
    if arguments.peer_python:
        found |= {PEER_FULL: peer("bfloat16", 0), PEER: peer("autocast", arguments.rank)}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carillon", default="build/carillon")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="of a run; the first does not count")
    parser.add_argument("--peer-steps", type=int, default=2, help="the same of PyTorch's; of one alone the first counts")
    parser.add_argument("--peer-python", help="a Python with torch, transformers and peft")
    parser.add_argument("--quantization", type=lambda text: text.split(","), default=[], help="of nf4, int8")
    parser.add_argument("--recompute", default="selective", choices=("none", "selective", "full"))
    parser.add_argument("--small", action="store_true", help="a small model, for a first look at whether it runs")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one process")
    parser.add_argument("--json", help="keep every sample here")
    arguments = parser.parse_args()
    runs = Runs(arguments.carillon, arguments.threads, arguments.timeout, arguments.peer_python or sys.executable)
    samples, notes = {}, []
    with tempfile.TemporaryDirectory(prefix="carillon-benchmark-") as name:
        geometry = SMALL if arguments.small else LARGE
        base = runs.carillon_base(pathlib.Path(name), geometry, arguments.length)
        measures = candidates(runs, arguments, base)
        for repeat in range(arguments.repeats):
            for what in list(measures)[:: 1 if repeat % 2 == 0 else -1]:
                try:
                    result = measures[what]()
                except Failed as error:
                    notes.append(f"{what}: {error}")
                    continue
                samples.setdefault(what, {})[repeat] = result
                print(f"{repeat + 1}: {what}: {result['seconds']:.2f} s, {result['peak'] / GIB:.2f} GiB", file=sys.stderr, flush=True)

    def middle(what, field):
        return median([result[field] for result in samples.get(what, {}).values()])

    def ratio(what, to):
        """The median over repeats of the ratio within a repeat, so that anything slowing a whole repeat cancels."""
        return median([result["seconds"] / samples[to][repeat]["seconds"] for repeat, result in samples.get(what, {}).items()
                       if repeat in samples.get(to, {})])

    def cell(value, form):
        return "–" if value is None else format(value, form)

    print(f"| {arguments.length} tokens, bfloat16, recompute {arguments.recompute} | seconds a step | × every weight | × floor "
          "| peak GiB |\n|---|---|---|---|---|")
    for what in measures:
        seconds, peak = middle(what, "seconds"), middle(what, "peak")
        print(f"| {what} | {cell(seconds, '.2f')} | {cell(ratio(what, FULL), '.3f')} | {cell(ratio(what, FLOOR), '.3f')} "
              f"| {cell(peak and peak / GIB, '.2f')} |")
    cost = ratio(ADAPTER, FLOOR)
    if cost is not None:
        print(f"\nThe adapter's own share of a step: {100 * (1 - 1 / cost):.1f} % (goal: at most 12 %).")
    losses = {what: middle(what, "loss") for what in measures if what not in (PEER_FULL, PEER)}
    if arguments.quantization:
        print("Loss of the last step: " + "; ".join(f"{what} {cell(loss, '.5f')}" for what, loss in losses.items()) + ".")
    for note in notes:
        print(note)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(samples, indent=1))
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
