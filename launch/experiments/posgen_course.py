#!/usr/bin/env python3
"""Prints accuracy and training loss during the runs of launch/reproduce_posgen.sh: posgen_course.py OUT

One row per subtask, rotation and step: mean over seeds ± standard deviation. The loss is the mean of the previous 50 steps. Leaky
positions can be answered from the last few tokens; fresh ones need a distant token.
"""

import json
import math
import pathlib
import sys

FIGURES = [("ID, 64", 64, "id_accuracy"), ("OOD, 128", 128, "ood_accuracy"), ("OOD, 256", 256, "ood_accuracy"),
           ("fresh ID, 64", 64, "id_accuracy_fresh"), ("fresh OOD, 256", 256, "ood_accuracy_fresh")]


def shown(values, scale, digits):
    values = [scale * value for value in values if value is not None]
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)):.{digits}f}"


def main():
    rows = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*/evals.jsonl")):
        subtask, rope, _ = path.parent.name.split("-")
        losses = [json.loads(line)["loss"] for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        for record in map(json.loads, path.read_text().splitlines()):
            step = record["step"]
            row = rows.setdefault((subtask, rope, step), {})
            before = losses[max(0, step - 50):step]
            row.setdefault("loss", {})[path.parent.name] = sum(before) / len(before)
            for _, length, metric in FIGURES:
                if record["length"] == length:
                    row.setdefault((length, metric), []).append(record["metrics"].get(metric))
    print("| subtask | trained with | step | training loss | " + " | ".join(name for name, _, _ in FIGURES) + " |")
    print("|---" * (4 + len(FIGURES)) + "|")
    order = {"rope": 0, "resonance": 1, "yarn": 2, "resonance_yarn": 3}
    for (subtask, rope, step), row in sorted(rows.items(), key=lambda item: (item[0][0], order.get(item[0][1], 9), item[0][2])):
        print(f"| {subtask} | {rope} | {step} | {shown(row['loss'].values(), 1, 3)} | " +
              " | ".join(shown(row.get((length, metric), []), 100, 2) for _, length, metric in FIGURES) + " |")


if __name__ == "__main__":
    main()
