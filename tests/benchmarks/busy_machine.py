"""Measures how much a build slows down while other processes use the same cores: tokens of `generate` and steps of six
layers, alone, with one busy process and with three. Several builds run in turns.

    python3 tests/benchmarks/busy_machine.py build/carillon [../before/build/carillon …] --repeats 3

A busy process only counts. A fair scheduler divides n cores evenly among n threads and b busy processes: with one busy
process, two threads get 4/3 of two cores, so the best possible time is 1.5 times the time alone. Prints medians of
seconds and, in brackets, of the ratio to the time alone within one repeat. Standard library only.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from cost import LARGE
from runs import Runs, median

SIX = {**LARGE, "num_hidden_layers": 6}


@contextlib.contextmanager
def busy(count):
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def seconds_of(records):
    return median([record["seconds"] for record in records][1:])


class Measures:
    def __init__(self, folder, length, steps, tokens):
        self.folder, self.length, self.steps, self.tokens = pathlib.Path(folder), length, steps, tokens
        with open(self.folder / "tokens.jsonl", "w") as file:
            print(json.dumps({"tokens": [(7 * i * i + i) % 49152 for i in range(length)]}), file=file)

    def train(self, runs, output, length, steps, dtype):
        config = {"model": {"architecture": "llama", **SIX, "max_position_embeddings": 4096},
                  "data": {"train": [{"path": str(self.folder / "tokens.jsonl")}], "sequence_length": length, "packing": False},
                  "train": {"max_steps": steps, "learning_rate": 1e-5, "recompute": "none"}, "runtime": {"dtype": dtype},
                  "checkpoint": {"every_steps": 1000000, "resume": "never"}, "output": str(output)}
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(config))
        runs.child([runs.carillon, "train", path, "--quiet"])

    def model(self, runs):
        """The folder of a run to generate with; made on the first call."""
        path = self.folder / "model"
        if not path.exists():
            self.train(runs, path, 64, 1, "bfloat16")
        return path

    def step(self, dtype):
        def measure(runs):
            with tempfile.TemporaryDirectory(dir=self.folder) as name:
                self.train(runs, pathlib.Path(name) / "run", self.length, self.steps, dtype)
                lines = (pathlib.Path(name) / "run" / "metrics.jsonl").read_text().splitlines()
            return seconds_of([json.loads(line) for line in lines])
        return measure

    def token(self, runs):
        """Wall-clock seconds per token: the difference between many tokens and one, so that loading the model does not
        count."""
        times, model = [], self.model(runs)
        for count in (1, 1 + self.tokens):
            begin = time.perf_counter()
            runs.child([runs.carillon, "generate", f"model={model}", "tokens=[1,2,3,4]", f"max_new_tokens={count}",
                        "stop_at_end=false", "--json"])
            times.append(time.perf_counter() - begin)
        return (times[1] - times[0]) / self.tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", help="carillon programs; NAME=VALUE,…:PROGRAM runs one with these variables")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--beside", default="0,1,3", help="numbers of busy processes; 0 comes first")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    beside = [int(count) for count in arguments.beside.split(",")]
    with tempfile.TemporaryDirectory(prefix="carillon-benchmark-") as folder:
        measures = Measures(folder, arguments.length, arguments.steps, arguments.tokens)
        rows = {"generate, s a token": measures.token, "step of six layers, bfloat16, s": measures.step("bfloat16"),
                "step of six layers, float32, s": measures.step("float32")}
        print("| measure | build | " + " | ".join("alone" if count == 0 else f"beside {count}" for count in beside) + " |")
        print("|---|---|" + "---|" * len(beside), flush=True)
        for name, measure in rows.items():
            if arguments.only not in name:
                continue
            samples = {build: {count: [] for count in beside} for build in arguments.builds}
            for repeat in range(arguments.repeats):
                for count in beside:
                    with busy(count):
                        for build in arguments.builds if repeat % 2 == 0 else reversed(arguments.builds):
                            variables, _, program = build.rpartition(":")
                            os.environ.update(kept := dict(pair.split("=") for pair in variables.split(",") if pair))
                            samples[build][count].append(measure(Runs(program, arguments.threads, 3600)))
                            for variable in kept:
                                del os.environ[variable]
            for build, times in samples.items():
                cells = []
                for count in beside:
                    ratios = [seconds / alone for seconds, alone in zip(times[count], times[beside[0]])]
                    cells.append(f"{median(times[count]):.3g}" + ("" if count == beside[0] else f" ({median(ratios):.2f})"))
                print(f"| {name} | {build} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
