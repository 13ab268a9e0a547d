"""Configurations, data and whole runs of `carillon train`."""

import json
import random

from children import Failed, run_child


def write_tokens(path, vocabulary, length, count, seed=1):
    """Writes learnable data: each sequence counts up by its own stride, with one random token in ten."""
    generator = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            begin, stride = generator.randrange(vocabulary), generator.randrange(1, 5)
            noise = generator.choices(range(10 * vocabulary), k=length)
            tokens = [n if n < vocabulary else (begin + i * stride) % vocabulary for i, n in enumerate(noise)]
            print(json.dumps({"tokens": tokens}), file=file)


def write_config(path, model, length, sequences, data, **train):
    """Writes the configuration of a run over `data` in file order. The learning rate is constant, so a short run is the
    beginning of a longer one."""
    config = {
        "model": {**model, "max_position_embeddings": length, "initializer_range": 0.02},
        "data": {"train": [{"path": str(data)}], "sequence_length": length, "packing": False, "shuffle": False},
        "train": {"micro_batch_size": sequences, "lr_scheduler": "constant", "max_steps": 1, **train},
        "runtime": {"dtype": "bfloat16"},
        "checkpoint": {"every_steps": None, "every": None},
        "output": str(path.with_suffix(".run")),
    }
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return path


def records(folder):
    """The records of a run's steps so far, without an incomplete last line."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def train(context, config, output, *keys, device="cuda"):
    """Runs `carillon train` to its end; returns the records of its steps."""
    context.machine.call("train", config, f"output={output}", f"runtime.device={device}", "--quiet", *keys,
                         seconds=max(context.left(), 1), device=device == "cuda")
    return records(output)


def train_until(context, config, output, seconds, enough, *keys):
    """Starts a run on the device, polls `enough()`, and stops the run once it is true or after `seconds`; the final
    checkpoint is not written. Raises Failed if the run ends by itself."""
    command = [context.machine.carillon, "train", config, f"output={output}", "runtime.device=cuda", *keys]
    done = run_child(command, context.machine.with_values(), seconds, lambda: "enough" if enough() else "")
    if not done.stopped:
        lines = done.errors.strip().splitlines() or ["no message"]
        raise Failed(f"carillon train: exit code {done.code}: {lines[-1][:400]}", done.text())
    return done
