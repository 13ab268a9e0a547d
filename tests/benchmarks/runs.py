"""Starts the measurements, each in a separate process, so that threads and memory are not shared."""

import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import cost

HERE = pathlib.Path(__file__).resolve().parent
GIB = 1 << 30


class Failed(Exception):
    """A child failed; the text is one line."""


def median(values):
    return statistics.median(values) if values else None


class Runs:
    """Carillon's programs and PyTorch's tasks on `threads` threads."""

    def __init__(self, carillon, threads, timeout, python=sys.executable):
        self.carillon, self.python = pathlib.Path(carillon).resolve(), python
        self.programs = self.carillon.parent / "tests" / "benchmarks"
        self.threads, self.timeout = threads, timeout

    def environment(self, threads):
        # A kernel set forced upon OpenBLAS could lower the limit, to which other figures are compared.
        kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        return {**kept, **counts, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

    def child(self, command, threads=None):
        """Runs a command; returns (standard output, peak resident bytes of the process)."""
        command = [str(word) for word in command]
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=output, stderr=errors,
                                       env=self.environment(threads or self.threads))
            status, usage = self.wait(process)
            output.seek(0)
            errors.seek(0)
            if status != 0:
                lines = errors.read().strip().splitlines() or ["no message"]
                raise Failed(f"{pathlib.Path(command[0]).name} ended with {status}: {lines[-1][:300]}")
            return output.read(), usage.ru_maxrss * 1024

    def wait(self, process):
        deadline = time.monotonic() + self.timeout
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage
            if time.monotonic() > deadline:
                process.terminate()
                os.wait4(process.pid, 0)
                process.returncode = -1
                raise Failed(f"stopped after {self.timeout} s")
            time.sleep(0.02)

    def pytorch(self, task, **arguments):
        output, peak = self.child([self.python, HERE / "pytorch_side.py", json.dumps({"task": task, **arguments})])
        return {**json.loads(output.strip().splitlines()[-1]), "peak": peak}

    # ---- matrix products, attention, the ring

    def google_benchmark(self, program, pattern, *arguments, least_seconds):
        """Runs a Google Benchmark program; returns {case: GFLOP/s}."""
        output, _ = self.child([self.programs / program, *arguments, f"--benchmark_filter={pattern}",
                                f"--benchmark_min_time={least_seconds}", "--benchmark_format=json"])
        return {case["name"]: case["GFLOP/s"] for case in json.loads(output)["benchmarks"]}

    def limit(self, dtype):
        """The current GFLOP/s of the fastest large matrix product of all libraries."""
        own = self.google_benchmark("product_benchmark", f"product/{dtype}/square", least_seconds=0.7)
        rates = {name.split("/")[2].replace("_", " "): rate for name, rate in own.items()}
        rates = {f"carillon {name}": rate for name, rate in rates.items()}
        rates |= self.pytorch("product", dtype=dtype)["rates"]
        fastest = max(rates, key=rates.get)
        return {"gflops": rates[fastest], "by": fastest, "rates": rates}

    def carillon_attention(self, dtype, backward, length):
        case = f"attention/{dtype}/{'both' if backward else 'forward'}/64/{length}/"
        rates = self.google_benchmark("attention_benchmark", case, length, least_seconds=1.5)
        return {"gflops": max(rates.values())}

    def pytorch_attention(self, dtype, backward, length):
        return self.pytorch("attention", dtype=dtype, backward=backward, length=length, heads=9, kv_heads=3,
                            head_dim=64)

    def carillon_ring(self, ranks, threads, length):
        """{dtype: GFLOP/s}, forward and backward, of all ranks together."""
        start = ["mpirun", "-n", ranks, "--bind-to", "core"] if ranks > 1 else []
        output, _ = self.child([*start, self.programs / "ring_benchmark", length], threads)
        return {record["type"]: record["both"] for record in json.loads(output)}

    def pytorch_ring(self, ranks, threads, length, dtype):
        return self.pytorch("ring", dtype=dtype, length=length, ranks=ranks, threads_per_rank=threads, heads=9,
                            kv_heads=3, head_dim=64, passes=3)

    # ---- whole steps: {"seconds" per step, "gflops", "tokens" per second, "peak" bytes}

    def rates(self, seconds, peak, geometry, length, sequences):
        return {"seconds": seconds, "peak": peak, "tokens": sequences * length / seconds,
                "gflops": cost.step(geometry, length, sequences) * 1e-9 / seconds}

    def carillon_step(self, geometry, length, sequences, dtype, recompute, steps, base=None, adapter=None):
        """Trains from random weights, or from those of `base`. `adapter`: keys of the section `adapter`, to train only
        an adapter on frozen weights."""
        with tempfile.TemporaryDirectory(prefix="carillon-benchmark-") as name:
            folder = pathlib.Path(name)
            generator = random.Random(1)
            with open(folder / "tokens.jsonl", "w") as file:
                for _ in range(sequences):
                    tokens = generator.choices(range(geometry["vocab_size"]), k=length)
                    print(json.dumps({"tokens": tokens}), file=file)
            config = {
                "model": {"base": str(base)} if base else
                         {"architecture": "llama", **geometry, "max_position_embeddings": length},
                "data": {"train": [{"path": str(folder / "tokens.jsonl")}], "sequence_length": length,
                         "packing": False, "shuffle": False},
                "train": {"max_steps": steps, "micro_batch_size": sequences, "learning_rate": 1e-5,
                          "recompute": recompute},
                "runtime": {"dtype": dtype},
                "checkpoint": {"every_steps": 1000000, "resume": "never"},
                "output": str(folder / "run"),
            }
            if adapter:
                config["adapter"] = {"type": "lora", **adapter}
            (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
            _, peak = self.child([self.carillon, "train", folder / "config.yaml", "--quiet"])
            records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        seconds = [record["seconds"] for record in records]
        return {**self.rates(median(seconds[1:] or seconds), peak, geometry, length, sequences),
                "loss": records[-1]["loss"]}

    def carillon_base(self, folder, geometry, length):
        """Makes a run's folder with random weights of this geometry (after one step on a few tokens), to train adapters
        on."""
        (folder / "few.jsonl").write_text(json.dumps({"tokens": list(range(16))}) + "\n")
        config = {"model": {"architecture": "llama", **geometry, "max_position_embeddings": length},
                  "data": {"train": [{"path": str(folder / "few.jsonl")}], "sequence_length": 16},
                  "train": {"max_steps": 1, "learning_rate": 1e-9}, "runtime": {"dtype": "bfloat16"},
                  "output": str(folder / "base")}
        (folder / "base.yaml").write_text(json.dumps(config))
        self.child([self.carillon, "train", folder / "base.yaml", "--quiet"])
        return folder / "base"

    def pytorch_step(self, geometry, length, sequences, mode, steps, checkpointing=False, compiled=False, rank=0):
        """`rank`: that of a PEFT adapter on all linear layers with frozen bfloat16 weights; 0 trains all weights."""
        result = self.pytorch("step", geometry=geometry, length=length, sequences=sequences, mode=mode, steps=steps,
                              checkpointing=checkpointing, compile=compiled, rank=rank)
        return self.rates(median(result["seconds"][1:] or result["seconds"]), result["peak"], geometry, length,
                          sequences)
