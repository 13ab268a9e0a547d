"""Runs the built program as a user would: paths, ranks, exit codes, metrics. Standard library only."""

import json
import os
import pathlib
import signal
import subprocess
import time

CARILLON = os.environ["CARILLON"]
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", "--mca",
          "btl", "self,vader"]

TINY = """
model:
  vocab_size: 22
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: 2
  num_attention_heads: 4
  num_key_value_heads: 2
  head_dim: 8
  tie_word_embeddings: true
  max_position_embeddings: 64
  initializer_range: 0.1
rope: {type: yarn, resonance: true, factor: 4, original_max_position_embeddings: 64}
data:
  train: [{path: %(folder)s/train.jsonl}]
  sequence_length: 33
  packing: false
train:
  max_steps: 12
  micro_batch_size: 4
  learning_rate: 3e-3
  warmup_steps: 2
  seed: 5
runtime: {dtype: float64}
checkpoint: {every_steps: 4, keep: 3}
output: %(folder)s/run
"""


def command(ranks, *arguments):
    """The argument list for `carillon ARGUMENTS`, without mpirun for one rank, else under mpirun."""
    words = [CARILLON, *map(str, arguments)]
    return words if ranks == 1 else [*MPIRUN, "-n", str(ranks), *words]


def run(ranks, *arguments, timeout=120, expect=0, environment=None):
    """Runs to the end and returns the finished process; fails unless the exit code is the expected one."""
    done = subprocess.run(command(ranks, *arguments), capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(environment or {})})
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"{arguments}: exit code {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}")
    return done


def start(ranks, *arguments, environment=None):
    return subprocess.Popen(command(ranks, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **(environment or {})})


def metrics(folder):
    """The records of a run's metrics.jsonl, without an incomplete last line."""
    path = pathlib.Path(folder) / "metrics.jsonl"
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def raw_fields(folder, names=("step", "loss", "grad_norm", "lr", "tokens", "tokens_total")):
    """The same records as text, character for character, without the fields that depend on time."""
    result = []
    for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines():
        pairs = json.loads(line, parse_float=str, parse_int=str)
        result.append(tuple(pairs[name] for name in names))
    return result


def numbers(value, name=""):
    """Yields every number of a JSON value with its dotted name."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, name)
    elif not isinstance(value, (str, bool)):
        yield name, value


def wait_for_steps(folder, steps, process, timeout=60):
    """Blocks until the run has recorded `steps` steps; fails if it ends or hangs before."""
    deadline = time.monotonic() + timeout
    while len(metrics(folder)) < steps:
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before step {steps}: {process.stderr.read()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"no step {steps} within {timeout} s")
        time.sleep(0.01)


def ranks_of(process):
    """Process ids of the program's ranks under an mpirun (or the process itself), in start order."""
    if process.args[0] == CARILLON:
        return [process.pid]
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(child) for child in children)


def kill_all(process):
    for pid in ranks_of(process):
        os.kill(pid, signal.SIGKILL)
    process.wait(timeout=30)


def tiny_run(folder, count=64):
    """Creates a folder with data and a configuration of the tiny model; returns the configuration's path."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run(1, "posgen", folder / "train.jsonl", "task=recursive", "length=32", f"count={count}", "seed=1")
    (folder / "config.yaml").write_text(TINY % {"folder": folder})
    return folder / "config.yaml"
