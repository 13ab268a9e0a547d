"""Mutants of untrusted input: safetensors, model files, config.json and index. Each run must exit with 0, or with 64, 65 or
66 and one error line, in bounded time and memory; never by a signal, with 70, or by hanging.

    fuzz_files.py [--mutants N] [--seed S] [--seconds T] [--keep FOLDER] [TARGET…]

By default a short deterministic round (CTest); with --seconds it continues with further seeds. --keep saves failing files."""

import argparse
import copy
import json
import os
import pathlib
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support")]
import tiny_model as tiny

CARILLON = os.environ["CARILLON"]
HANGS_AFTER = 100.0  # seconds, for a busy machine; alone it takes one second
MEMORY = 1 << 20     # KiB of resident memory

# ---- mutations


def flip(data, draw):
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        data[draw.randrange(len(data))] = draw.choice([draw.randrange(256), 0, 255, data[draw.randrange(len(data))]])
    return bytes(data)


def cut(data, draw):
    return data[:draw.randrange(len(data))]


def grow(data, draw):
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.choice([1, 8, 512])) + data[at:]


def move(data, draw):
    a, b, n = draw.randrange(len(data)), draw.randrange(len(data)), draw.choice([1, 8, 64])
    data = bytearray(data)
    data[b:b + n] = data[a:a + n]
    return bytes(data)


def number(data, draw):
    """Replaces eight bytes with a size that does not fit."""
    at = draw.randrange(max(1, len(data) - 8))
    value = draw.choice([0, 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1])
    return data[:at] + struct.pack("<Q", value) + data[at + 8:]


BYTES = [flip, flip, flip, cut, grow, move, number]
VALUES = [None, True, False, 0, 1, -1, 2**31, 2**40, 2**63, 2**64, 10**30, -2**63, 0.5, 1e308, -1e-300, "", "x", "\n\x1b[2J", [], [[]], {},
          {"a": {}}, [None], "F32", "../x", "/etc/passwd", float("nan"), float("inf"), "\ud800", [1, 2, 3], "9" * 400]


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], path + (key,))
    elif isinstance(value, list):
        for i in range(min(len(value), 4)):
            yield from places(value[i], path + (i,))


def json_mutant(value, draw):
    """The text of a JSON value with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice([1, 1, 2, 3])):
        path = draw.choice([p for p in places(value) if p] or [()])
        if not path:
            return json.dumps(draw.choice(VALUES))
        at = value
        for key in path[:-1]:
            at = at[key]
        how = draw.randrange(10)
        if how == 0 and isinstance(at, dict):
            del at[path[-1]]
        elif how == 1 and isinstance(at, dict):
            at[draw.choice(["", "x" * 300, "model.layers.0", "\u0000", "rope_scaling"])] = at.pop(path[-1])
        elif how == 2 and isinstance(at[path[-1]], (int, float)):
            at[path[-1]] = at[path[-1]] * draw.choice([-1, 0, 2, 1000, 10**9, 0.5])
        elif how == 3:
            nested = at[path[-1]]
            for _ in range(draw.choice([1, 5, 70])):
                nested = draw.choice([[nested], {"a": nested}])
            at[path[-1]] = nested
        else:
            at[path[-1]] = copy.deepcopy(draw.choice(VALUES))
    text = json.dumps(value)
    if draw.randrange(12) == 0:
        depth = draw.choice([100, 100000])
        text = text[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    if draw.randrange(12) == 0:
        text = text[:-1] + ", " + text[1:]  # every key twice
    return text if draw.randrange(8) else flip(text.encode(), draw)


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


# ---- targets: mutant(folder, draw) writes a file and returns the command


class Safetensors:
    def __init__(self, work):
        self.header = json.loads((raw := tiny.safetensors(tiny.weights(), {"format": "pt"}))[8:8 + struct.unpack(
            "<Q", raw[:8])[0]])
        self.raw = raw
        self.data = raw[8 + struct.unpack("<Q", raw[:8])[0]:]

    def mutant(self, folder, draw):
        tiny.folder(folder)
        if draw.randrange(2):
            header = as_bytes(json_mutant(self.header, draw))
            length = len(header) if draw.randrange(10) else draw.choice([0, 1, len(header) - 1, 2**31, 2**63, 2**64 - 1])
            content = struct.pack("<Q", length) + header + self.data
        else:
            # Most of the file is elements, for which any value is valid: mutate the header.
            end = len(self.raw) - len(self.data)
            content = draw.choice(BYTES)(self.raw[:end], draw) + self.data
        (folder / "model.safetensors").write_bytes(content)
        return draw.choice([["inspect", folder], ["import", folder, folder / "out.h5"]])


class Index:
    def __init__(self, work):
        self.index = json.loads((tiny.sharded(work / "index") / "model.safetensors.index.json").read_text())

    def mutant(self, folder, draw):
        tiny.sharded(folder)
        (folder / "model.safetensors.index.json").write_bytes(as_bytes(json_mutant(self.index, draw)))
        return draw.choice([["inspect", folder], ["import", folder, folder / "out.h5"]])


class Config:
    CONFIGS = [tiny.CONFIG,
               {**tiny.CONFIG, "tie_word_embeddings": True, "eos_token_id": [1, 2], "rope_scaling": {
                   "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
               {**tiny.CONFIG, "rope_parameters": {"rope_type": "longrope", "rope_theta": 100.0, "factor": 2.0,
                                                   "short_factor": [1.0, 1.1], "long_factor": [1.0, 2.0],
                                                   "original_max_position_embeddings": 32}}]

    def __init__(self, work):
        self.input = tiny.documents(work / "in.jsonl", (5,))

    def mutant(self, folder, draw):
        tiny.folder(folder)
        (folder / "config.json").write_bytes(as_bytes(json_mutant(draw.choice(self.CONFIGS), draw)))
        return draw.choice([["import", folder, folder / "out.h5"], ["import", folder, folder / "out.h5"],
                            ["score", f"model={folder}", f"input={self.input}", f"output={folder}/out.jsonl"]])


class ModelFile:
    def __init__(self, work):
        import h5py  # imported only to fail early if this target cannot run
        self.files = [tiny.model_file(work / "plain.h5").read_bytes(),
                      tiny.model_file(work / "chunks.h5", chunks=True, compression="gzip", fletcher32=True).read_bytes()]
        subprocess.run([CARILLON, "import", tiny.folder(work / "m"), work / "own.h5"], check=True, capture_output=True)
        self.files.append((work / "own.h5").read_bytes())
        self.input = tiny.documents(work / "h.jsonl", (5,))

    def mutant(self, folder, draw):
        content = draw.choice(self.files)
        # The library reads the metadata: mutate a window that is not all zeros or elements.
        for _ in range(draw.choice([1, 1, 3])):
            content = draw.choice(BYTES)(content, draw) or b"\0"
        folder.mkdir()
        (folder / "m.h5").write_bytes(content)
        return draw.choice([["inspect", folder / "m.h5"], ["inspect", folder / "m.h5"], ["export", folder / "m.h5", folder / "out"],
                            ["score", f"model={folder}/m.h5", f"input={self.input}", f"output={folder}/out.jsonl"]])


TARGETS = {"safetensors": Safetensors, "index": Index, "config": Config, "model_file": ModelFile}

# ---- running


def run(command):
    """(what is wrong or '', exit code)"""
    started = time.monotonic()
    process = subprocess.Popen([CARILLON, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, stderr = process.communicate(timeout=HANGS_AFTER)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no end after {time.monotonic() - started:.0f} s", None
    code = process.returncode
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.startswith("carillon: error:")]
    if code not in (0, 64, 65, 66):
        return f"exit code {code}: {stderr.decode('utf-8', 'replace')[:300]}", code
    if code != 0 and len(lines) != 1:
        return f"exit code {code} with {len(lines)} error lines", code
    if any(c < 32 and c != 10 for c in stderr):
        return "control characters in what it says", code
    return "", code


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=40, help="a target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--keep")
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    options = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp())
    failures, codes, total, until = [], {}, 0, time.monotonic() + options.seconds
    try:
        targets = {}
        for name in options.targets or TARGETS:
            try:
                targets[name] = TARGETS[name](work)
            except ImportError as missing:
                print(f"{name} is left out: {missing}")
        number, seed = 0, options.seed
        while True:
            for name, target in targets.items():
                for i in range(options.mutants):
                    draw = random.Random(f"{name} {seed} {i}")
                    folder = work / f"mutant-{number}"
                    number += 1
                    command = target.mutant(folder, draw)
                    wrong, code = run(command)
                    total += 1
                    codes[code] = codes.get(code, 0) + 1
                    if wrong:
                        failures.append(f"{name}, seed {seed}, mutant {i}, {command[0]}: {wrong}")
                        print(failures[-1], flush=True)
                        if options.keep:
                            shutil.copytree(folder, pathlib.Path(options.keep) / f"{name}-{seed}-{i}", dirs_exist_ok=True)
                    shutil.rmtree(folder, ignore_errors=True)
            seed += 1
            if time.monotonic() >= until:
                break
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"{total} mutants, exit codes {dict(sorted(codes.items(), key=str))}, {len(failures)} failures, "
              f"largest resident memory {memory / 1024:.0f} MiB")
        if memory > MEMORY:
            failures.append("memory")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
