"""Measures the cost of a run's safety checks: the comparison of the ranks' collectives in every step (row R15) and the
comparison of replicas before a checkpoint (R19), each off and on in turns. Also measures how long a step waits for a
checkpoint, with and without `checkpoint.async`. On an idle machine:

    CARILLON=build/carillon python3 tests/reliability/costs.py [--repeats 3]

The first two use two ranks of one thread, the last one rank. Times come from the run's own trace: the median over all
events of a kind except the first, then over runs. A ratio is the median of the ratios within one repeat."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / folder) for folder in ("support", "benchmarks")]
import black_box as bb
from cost import LARGE

SIX = {**LARGE, "num_hidden_layers": 6}
TINY = {**LARGE, "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16}


def spans(trace, name):
    """Milliseconds of the spans of this name on rank 0's main thread, in order."""
    events = json.loads(trace.read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    return [event["dur"] / 1000 for event in events if event.get("name") == name and event.get("pid", 0) == 0]


class Runs:
    def __init__(self, folder):
        self.folder, self.number = pathlib.Path(folder), 0

    def run(self, ranks, geometry, length, steps, every, mistake="", asynchronous=False):
        self.number += 1
        output = self.folder / f"run{self.number}"
        tokens = self.folder / f"tokens{geometry['vocab_size']}-{length}.jsonl"
        if not tokens.exists():
            with open(tokens, "w") as file:
                for row in range(2):
                    print(json.dumps({"tokens": [(7 * i * i + i + row) % geometry["vocab_size"] for i in range(length)]}), file=file)
        config = {"model": {"architecture": "llama", **geometry, "max_position_embeddings": 4096},
                  "data": {"train": [{"path": str(tokens)}], "sequence_length": length, "packing": False},
                  "train": {"max_steps": steps, "learning_rate": 1e-5, "recompute": "none"},
                  "parallel": {"zero": 0},
                  "runtime": {"dtype": "float32", "trace": str(output) + ".trace.json"},
                  "checkpoint": {"every_steps": every, "keep": 1, "resume": "never", "async": asynchronous}, "output": str(output)}
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(config))
        one_thread = {"OMP_NUM_THREADS": "1"} if ranks > 1 else {}
        bb.run(ranks, "train", path, "--quiet", timeout=3600, environment={"CARILLON_TEST_BREAK": mistake, **one_thread})
        trace = pathlib.Path(str(output) + ".trace.json")
        seconds = [record["seconds"] * 1000 for record in bb.metrics(output)]
        checkpoints = spans(trace, "checkpoint")
        shutil.rmtree(output)
        trace.unlink()
        return {"step": statistics.median(seconds[1:]), "checkpoints": checkpoints}


def row(name, before, after, unit="ms"):
    ratios = [a / b for a, b in zip(after, before)]
    print(f"| {name} | {statistics.median(before):.4g} {unit} | {statistics.median(after):.4g} {unit} | {statistics.median(ratios):.3f} "
          f"| {min(ratios):.3f} | {max(ratios):.3f} |", flush=True)


def in_turns(repeats, first, second):
    a, b = [], []
    for repeat in range(repeats):
        for samples, measure in ((a, first), (b, second)) if repeat % 2 == 0 else ((b, second), (a, first)):
            samples.append(measure())
    return a, b


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="r15, r19 or async")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CARILLON_CACHE"] = folder + "/cache"
        runs = Runs(folder)
        print("| what | without | with | ratio, median | smallest | largest |\n|---|---|---|---|---|---|")
        if options.only in ("", "r15"):
            for name, geometry, length, steps in (("tiny", TINY, 64, 300), ("six layers of SmolLM2", SIX, 256, 6)):
                off, on = in_turns(options.repeats,
                                   lambda: runs.run(2, geometry, length, steps, 1000000, "histories_not_compared")["step"],
                                   lambda: runs.run(2, geometry, length, steps, 1000000)["step"])
                row(f"R15, a step, {name}", off, on)
        if options.only in ("", "r19"):
            off, on = in_turns(options.repeats,
                               lambda: statistics.median(runs.run(2, SIX, 32, 6, 1, "replicas_not_compared")["checkpoints"][1:]),
                               lambda: statistics.median(runs.run(2, SIX, 32, 6, 1)["checkpoints"][1:]))
            row("R19, a checkpoint, six layers of SmolLM2", off, on)
        if options.only in ("", "async"):
            # Time that periodic saves block: the copy, and the remaining work after a later step. The last save is left
            # out, because the run waits for it.
            steps, every, saves = 24, 8, 2
            def stall(asynchronous):
                made = runs.run(1, SIX, 256, steps, every, asynchronous=asynchronous)
                return sum(made["checkpoints"][:-1]) / saves, made["step"]
            waited, copied = in_turns(options.repeats, lambda: stall(False), lambda: stall(True))
            row("a step waits for a checkpoint: async false, true", [s for s, _ in waited], [s for s, _ in copied])
            row("a step beside it", [s for _, s in waited], [s for _, s in copied])
    return 0


if __name__ == "__main__":
    sys.exit(main())
