#!/usr/bin/env python3
"""Makes the tables of runtime/cuda/README.md: the predictions of `carillon plan` by attention engine, and the time of a
step by op on the roofline of the device. All numbers are predictions, not measurements.

    python tests/gpu/plan_table.py [PROGRAM]            prints the tables
    python tests/gpu/plan_table.py [PROGRAM] --write    writes them into the README
"""

import json
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
README = SOURCE / "runtime/cuda/README.md"
BEGIN, END = "<!-- plan_table.py: begin -->\n", "<!-- plan_table.py: end -->\n"
PROFILE = "h100-sxm"

QWEN3_8B = {"model": {"architecture": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288,
                      "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                      "tie_word_embeddings": False, "max_position_embeddings": 40960},
            "rope": {"type": "default", "base": 1000000},
            "data": {"train": [{"path": "nowhere.jsonl"}], "sequence_length": 8192},
            "train": {"max_steps": 10, "recompute": "selective"}, "runtime": {"device": "cuda"}, "output": "nowhere"}
MILLION = ["train.offload=checkpoints", "train.mlp_tile=8k", "parallel.zero=2"]
# Label, configuration, additional keys.
RUNS = [("Qwen3-8B, 8k, 8 GPUs", QWEN3_8B, ["plan.ranks=8", "data.sequence_length=8k", "parallel.data=8", "parallel.zero=1"]),
        ("Qwen3-8B, 128k, 8 GPUs", QWEN3_8B, ["plan.ranks=8", "data.sequence_length=128k", "parallel.context=8",
                                              "train.offload=checkpoints", "train.mlp_tile=8k"]),
        ("Qwen3-8B, 1M, 8 GPUs", QWEN3_8B, ["plan.ranks=8", "data.sequence_length=1024k", "parallel.context=8", *MILLION]),
        ("Llama-70B, 1M, 128 GPUs", SOURCE / "launch/configs/h100x128_70b_1m.yaml", ["plan.nodes=16"])]
ROOFLINE = "Qwen3-8B, 128k, 8 GPUs"
SHOWN = 14


def plan(program, folder, config, keys):
    if isinstance(config, dict):
        path = folder / "qwen3_8b.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        config = path
    done = subprocess.run([program, "plan", config, "--json", f"plan.profile={PROFILE}", *keys], capture_output=True, text=True)
    if done.returncode not in (0, 64) or not done.stdout:
        sys.exit(f"carillon plan {config} {' '.join(keys)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def predictions(program, folder):
    lines = ["| run | engine | forward, backward | step, s | MFU | GB a rank | measured |\n", "|---|---|---|---|---|---|---|\n"]
    for name, config, keys in RUNS:
        for engine in ("native", "cudnn"):
            planned = plan(program, folder, config, [*keys, f"runtime.attention={engine}"])
            time, passes = planned["time"], planned["time"]["attention"]
            fits = "" if planned["runs"] else ", does not fit"
            lines.append(f"| {name} | {engine} | {passes['forward']}, {passes['backward']} | {time['seconds']:.3g} | "
                         f"{100 * time['mfu']:.0f} % | {planned['memory']['peak_bytes'] / 1e9:.1f}{fits} | |\n")
    return "".join(lines)


def roofline(program, folder):
    name, config, keys = next(run for run in RUNS if run[0] == ROOFLINE)
    planned = plan(program, folder, config, keys)
    peak, moving = (planned["machine"][key] for key in ("peak_flops_per_second", "memory_bytes_per_second"))
    work = {}
    for what, one in planned["counts"][0]["work"].items():
        compute, memory = one["flop"] / peak, one["bytes"] / moving
        work[what] = max(compute, memory), one, "compute" if compute > memory else "memory"
    total = sum(seconds for seconds, _, _ in work.values())
    lines = [f"{name}, rank 0, a step: {total:.3g} s at the device's limits.\n\n",
             "| op (products: rows x summed x columns; attention: rows x keys) | calls | TFLOP | GB | ms | share | bound by |\n",
             "|---|---|---|---|---|---|---|\n"]
    ordered = sorted(work.items(), key=lambda item: -item[1][0])
    for what, (seconds, one, bound) in ordered[:SHOWN]:
        lines.append(f"| {what} | {one['calls']} | {one['flop'] / 1e12:.3g} | {one['bytes'] / 1e9:.3g} | {1e3 * seconds:.3g} | "
                     f"{100 * seconds / total:.1f} % | {bound} |\n")
    rest = ordered[SHOWN:]
    if rest:
        seconds = sum(item[1][0] for item in rest)
        lines.append(f"| {len(rest)} others | {sum(item[1][1]['calls'] for item in rest)} | | "
                     f"{sum(item[1][1]['bytes'] for item in rest) / 1e9:.3g} | {1e3 * seconds:.3g} | "
                     f"{100 * seconds / total:.1f} % | |\n")
    return "".join(lines)


def main():
    arguments = [word for word in sys.argv[1:] if word != "--write"]
    program = pathlib.Path(arguments[0] if arguments else SOURCE / "build/carillon").resolve()
    with tempfile.TemporaryDirectory() as folder:
        text = predictions(program, pathlib.Path(folder)) + "\n" + roofline(program, pathlib.Path(folder))
    if "--write" not in sys.argv:
        print(text)
        return
    before, rest = README.read_text().split(BEGIN)
    README.write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
