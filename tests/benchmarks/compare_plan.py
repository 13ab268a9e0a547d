"""Compares `carillon plan` with real runs: trains small models for three steps on several layouts and compares peak
memory and time per step with the plan. Prints one Markdown table.

    CARILLON=build/carillon python3 tests/benchmarks/compare_plan.py > comparison.md

The machine is measured first (`carillon bench`), once by one rank with all cores and once by two ranks with half of
them each; a plan uses the profile measured with its own number of ranks. Peak: `peak_memory_bytes` minus the profile's
library_bytes, compared with the plan's peak without libraries. Time: the median of the steps from the second on. With
more ranks than cores the time means nothing and is left out. Standard library only.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

CARILLON = os.environ.get("CARILLON", "build/carillon")

GEOMETRIES = {
    "10M": dict(vocab_size=8192, hidden_size=320, intermediate_size=864, num_hidden_layers=6, num_attention_heads=10,
                num_key_value_heads=2, head_dim=32),
    "45M": dict(vocab_size=16384, hidden_size=512, intermediate_size=1408, num_hidden_layers=10, num_attention_heads=8,
                num_key_value_heads=4, head_dim=64),
    "135M": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                 num_key_value_heads=3, head_dim=64, tie_word_embeddings="true"),
}

# name, geometry, tokens, dtype, recompute, data, context, tensor, ZeRO, micro-batch
CASES = [
    ("10M-alone", "10M", 1024, "float32", "selective", 1, 1, 1, 1, 2),
    ("10M-alone-none", "10M", 2048, "bfloat16", "none", 1, 1, 1, 1, 1),
    ("10M-cp2", "10M", 4096, "float32", "none", 1, 2, 1, 1, 1),
    ("10M-tp2", "10M", 2048, "float32", "selective", 1, 1, 2, 1, 1),
    ("10M-dp2-z1", "10M", 1024, "float32", "selective", 2, 1, 1, 1, 1),
    ("10M-dp2-z2", "10M", 1024, "bfloat16", "selective", 2, 1, 1, 2, 1),
    ("10M-tp2-cp2", "10M", 4096, "bfloat16", "full", 1, 2, 2, 1, 1),
    ("45M-alone-full", "45M", 4096, "bfloat16", "full", 1, 1, 1, 1, 1),
    ("45M-cp2", "45M", 8192, "bfloat16", "selective", 1, 2, 1, 1, 1),
    ("45M-cp2-z2", "45M", 4096, "float32", "selective", 1, 2, 1, 2, 1),
    ("45M-tp2", "45M", 4096, "bfloat16", "none", 1, 1, 2, 1, 1),
    ("45M-dp2-z0", "45M", 2048, "float32", "full", 2, 1, 1, 0, 1),
    ("135M-alone", "135M", 2048, "bfloat16", "selective", 1, 1, 1, 1, 1),
    ("135M-cp2", "135M", 4096, "bfloat16", "selective", 1, 2, 1, 1, 1),
    ("135M-dp2-z2", "135M", 1024, "bfloat16", "none", 2, 1, 1, 2, 1),
]


def write_case(folder, case):
    """Writes the configuration of the run and random tokens for it; returns the configuration's path and number of
    ranks."""
    name, geometry, tokens, dtype, recompute, data, context, tensor, zero, batch = case
    shape = GEOMETRIES[geometry]
    generator = random.Random(name)
    with open(folder / "train.jsonl", "w", encoding="utf-8") as file:
        for _ in range(3 * batch * data):
            file.write(json.dumps({"tokens": [generator.randrange(shape["vocab_size"]) for _ in range(tokens)]}) + "\n")
    keys = "\n".join(f"  {key}: {value}" for key, value in shape.items())
    (folder / "run.yaml").write_text(f"""model:
{keys}
  max_position_embeddings: {tokens}
data:
  train: [{{path: {folder}/train.jsonl}}]
  sequence_length: {tokens}
train:
  max_steps: 3
  micro_batch_size: {batch}
  recompute: {recompute}
parallel: {{data: {data}, context: {context}, tensor: {tensor}, zero: {zero}}}
runtime: {{dtype: {dtype}}}
checkpoint: {{every_steps: ~, every: ~}}
output: {folder}/run
""", encoding="utf-8")
    return folder / "run.yaml", data * context * tensor


def plan(config, ranks, profile):
    done = subprocess.run([CARILLON, "plan", str(config), "--json", f"plan.profile={profile}", f"plan.ranks={ranks}"],
                          capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"{config}: {done.stderr}")
    return json.loads(done.stdout)


def run(ranks, threads, cores, arguments):
    """Runs carillon with these arguments on `ranks` ranks; returns whether every rank had its own cores."""
    enough = ranks * threads <= cores
    launcher = []
    if ranks > 1:
        launcher = ["mpirun", "-n", str(ranks), "--mca", "btl", "self,vader"]
        launcher += (["--map-by", f"slot:PE={threads}", "--bind-to", "core"] if enough else
                     ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"])
    subprocess.run([*launcher, CARILLON, *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL,
                   env={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **os.environ,
                        "OMP_NUM_THREADS": str(threads)})
    return enough


def measure_machine(folder, ranks, cores, seconds):
    """Measures this machine's profile with the cores divided among the ranks; returns its path."""
    path = folder / f"profile-{ranks}.json"
    run(ranks, cores // ranks, cores,
        ["bench", f"bench.output={path}", f"bench.folder={folder}", f"bench.seconds={seconds}"])
    return path


def train(config, ranks, threads, cores):
    """Trains; returns peak memory in bytes, seconds per step, and whether every rank had its own cores."""
    enough = run(ranks, threads, cores, ["train", str(config)])
    lines = (config.parent / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return (records[-1]["peak_memory_bytes"], statistics.median(record["seconds"] for record in records[1:]), enough)


def percent(planned, measured):
    return f"{100 * (planned - measured) / measured:+.1f} %"


def compare(only, cores, profiles):
    print("| case | tokens | type | recompute | dp·cp·tp, ZeRO | peak planned | measured | error | step planned | measured |"
          " error |\n|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    memory_errors, time_errors = [], []
    for case in CASES:
        if only not in case[0]:
            continue
        name, _, tokens, dtype, recompute, data, context, tensor, zero, _ = case
        folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-plan-"))
        try:
            config, ranks = write_case(folder, case)
            planned = plan(config, ranks, profiles[min(ranks, 2)])
            peak, seconds, enough = train(config, ranks, planned["machine"]["threads"], cores)
        finally:
            shutil.rmtree(folder)
        libraries = planned["memory"]["by_role"]["libraries"]
        planned_peak, measured_peak = planned["memory"]["peak_bytes"] - libraries, peak - libraries
        memory_errors.append(abs(planned_peak - measured_peak) / measured_peak)
        planned_time = planned["time"]["seconds"]
        if enough:
            time_errors.append(abs(planned_time - seconds) / seconds)
        print(f"| {name} | {tokens} | {dtype} | {recompute} | {data}·{context}·{tensor}, {zero} | "
              f"{planned_peak / 2**20:.1f} MiB | {measured_peak / 2**20:.1f} MiB | {percent(planned_peak, measured_peak)} | "
              f"{planned_time:.3f} s | {seconds:.3f} s | "
              f"{percent(planned_time, seconds) if enough else 'too few cores'} |", flush=True)
    if memory_errors:
        print(f"\nMean error: memory {100 * statistics.mean(memory_errors):.1f} %"
              + (f", time {100 * statistics.mean(time_errors):.1f} %" if time_errors else "") + ".")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench-seconds", default=30, type=float, help="for each of the two profiles")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    profiles = pathlib.Path(tempfile.mkdtemp(prefix="compare-plan-profiles-"))
    try:
        compare(arguments.only, cores,
                {ranks: measure_machine(profiles, ranks, cores, arguments.bench_seconds) for ranks in (1, 2)})
    finally:
        shutil.rmtree(profiles)


if __name__ == "__main__":
    main()
