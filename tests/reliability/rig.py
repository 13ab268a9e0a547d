"""Shared by the rows of the scoreboard: a tiny run and its start with a fault, the conditions that must hold
afterwards, and the line that a row prints."""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

FAULTS = os.environ["FAULTS"]
PATIENCE = 90  # seconds after which a command counts as hanging: about twenty times its time on a busy machine

CONFIG = """
model: {vocab_size: 22, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2,
        num_key_value_heads: 2, head_dim: 8, tie_word_embeddings: true, max_position_embeddings: 64,
        initializer_range: 0.1}
data: {train: [{path: %(folder)s/train.jsonl}], sequence_length: 17, packing: false}
train: {max_steps: 4, micro_batch_size: 2, learning_rate: 3e-3, seed: 5}
runtime: {dtype: float64, threads: 1}
checkpoint: {every_steps: 2, keep: 3}
output: %(folder)s/run
"""


class Rig:
    """A tiny run, its reference results, and methods to start it with a fault."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        os.environ["CARILLON_CACHE"] = str(self.folder / "cache")
        bb.run(1, "posgen", self.folder / "train.jsonl", "task=recursive", "length=16", "count=32", "seed=1")
        self.config = self.folder / "config.yaml"
        self.config.write_text(CONFIG % {"folder": self.folder})
        self.number = 0
        self.reference = {}
        for ranks in (1, 2):
            output = self.fresh()
            self.train(ranks, output)
            self.reference[ranks] = bb.raw_fields(output)
        self.whole = output  # the run of two ranks
        self.alone = self.fresh()
        self.train(1, self.alone)

    def fresh(self):
        self.number += 1
        return self.folder / f"run{self.number}"

    def copy(self, ranks=1):
        output = self.fresh()
        shutil.copytree(self.alone if ranks == 1 else self.whole, output)
        return output

    def start(self, ranks, arguments, faults=None, limit=PATIENCE):
        """Runs a command; returns (exit code, or None for a hang; standard error). Death by a signal gives 128 + its
        number."""
        environment = dict(os.environ)
        words = bb.command(ranks, *arguments)
        if faults:
            faults = {f"FAULT_{key.upper()}": str(value) for key, value in faults.items()}
            if ranks == 1:
                environment.update(faults, LD_PRELOAD=FAULTS)
            else:
                at = len(bb.MPIRUN)
                words[at:at] = [word for key, value in {**faults, "LD_PRELOAD": FAULTS}.items()
                                for word in ("-x", f"{key}={value}")]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                                   env=environment, start_new_session=True)
        try:
            _, error = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the session that was started above
            process.communicate()
            return None, "hangs"
        code = process.returncode
        return (128 - code if code < 0 else code), error

    def train(self, ranks, output, *more, faults=None, expect=0):
        words = ["train", self.config, f"output={output}", *(["parallel.context=2"] if ranks == 2 else []), *more]
        code, error = self.start(ranks, words, faults)
        if expect is not None and code != expect:
            raise AssertionError(f"exit code {code}, expected {expect}: {error}")
        return code, error

    def count(self, ranks, calls="", rank=0, prepare=None, under="", more=()):
        """The number of calls that one rank of a run makes."""
        output = prepare() if prepare else self.fresh()
        counter = self.folder / "count"
        counter.unlink(missing_ok=True)
        self.train(ranks, output, *(["train.max_steps=5"] if prepare else []), *more,
                   faults={"under": str(output) + under, "calls": calls, "at": 0, "rank": rank, "count": counter})
        return struct.unpack("q", counter.read_bytes())[0]


def committed(error):
    """The newest step that the run reported as committed."""
    return max(map(int, re.findall(r"checkpoint \S+/step-(\d{8}) in ", error)), default=0)


def state_of_run(output):
    """(newest step that verifies, whether the metrics are complete up to it). Only reads."""
    done = subprocess.run([bb.CARILLON, "inspect", str(output), "--json"], capture_output=True, text=True,
                          timeout=PATIENCE)
    if done.returncode != 0:
        return 0, True
    found = json.loads(done.stdout)["step"]
    steps = [record["step"] for record in bb.metrics(output)]
    return found, steps[:found] == list(range(1, found + 1))


def aftermath(rig, ranks, output, error, calm_code, code):
    """Checks the conditions that must hold after any fault; returns a text if one does not, else None."""
    if code is None:
        return "hangs"
    if code not in calm_code:
        return f"exit code {code}"
    if code not in (0, 137) and "carillon: error: " not in error:
        return "no error line"
    newest, complete = state_of_run(output)
    if newest < committed(error):
        return f"step {committed(error)} was committed, step {newest} is there"
    if not complete:
        return f"metrics.jsonl lacks records up to step {newest}"
    code, error = rig.train(ranks, output, expect=None)
    if code != 0:
        return f"resuming: exit code {code}: {error[-300:]}"
    if bb.raw_fields(output) != rig.reference[ranks]:
        return "resumed, it is another run"
    left = [path.name for path in output.rglob("*") if ".tmp-" in path.name or ".del-" in path.name]
    return f"left behind: {left}" if left else None


class Row:
    def __init__(self, name, what):
        self.name, self.what = name, what
        self.injected = self.survived = 0
        self.control = "-"
        self.troubles = []
        self.begin = time.monotonic()

    def point(self, where, trouble):
        self.injected += 1
        if trouble:
            self.troubles.append(f"{where}: {trouble}")
        else:
            self.survived += 1

    def good(self):
        return self.injected == self.survived > 0 and not str(self.control).startswith("0 of")

    def line(self):
        return (f"{self.name:4} {self.what:58} {self.injected:6} {self.survived:6}   {self.control:14} "
                f"{time.monotonic() - self.begin:5.0f} s")


def sample(count, most):
    """1 … count, or `most` of them, evenly spaced and including both ends."""
    if count <= most:
        return list(range(1, count + 1))
    if most == 1:
        return [(count + 1) // 2]
    return sorted({1 + round(i * (count - 1) / (most - 1)) for i in range(most)})


def sweep(rig, row, ranks, action, most, calm, calls="", lasting=False, rank=0, more=()):
    for at in sample(rig.count(ranks, calls, rank, more=more), most):
        output = rig.fresh()
        faults = {"under": output, "calls": calls, "action": action, "at": at, "rank": rank}
        if lasting:
            faults["lasting"] = 1
        code, error = rig.train(ranks, output, *more, faults=faults, expect=None)
        row.point(f"{action}{' lasting' if lasting else ''} at {calls or 'call'} {at}, rank {rank} of {ranks}",
                  aftermath(rig, ranks, output, error, calm, code))
        shutil.rmtree(output, ignore_errors=True)
