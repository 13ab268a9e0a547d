#!/usr/bin/env python3
"""Prints accuracy and training loss during the runs of launch/reproduce_posgen.sh: posgen_course.py OUT

One row per subtask, rotation and step: mean over seeds ± standard deviation. The loss is the mean of the previous 50 steps. Leaky
positions can be answered from the last few tokens; fresh ones need a distant token. OUT/course-SUBTASK.svg shows training loss and
accuracy out of distribution by step, a line per rotation (mean over seeds) in a band from the lowest to the highest seed.
OUT/accuracy-SUBTASK.svg shows the accuracy of every trained model at 256 tokens under each rotation of its sweep, a dot per seed.
"""

import csv
import json
import math
import pathlib
import sys

FIGURES = [("ID, 64", 64, "id_accuracy"), ("OOD, 128", 128, "ood_accuracy"), ("OOD, 256", 256, "ood_accuracy"),
           ("fresh ID, 64", 64, "id_accuracy_fresh"), ("fresh OOD, 256", 256, "ood_accuracy_fresh")]
ROTATIONS = {"rope": ("RoPE", "#3b7dd8"), "resonance": ("Resonance", "#d8743b"), "yarn": ("YaRN", "#2a9d6f"),
             "resonance_yarn": ("Resonance YaRN", "#a04fc4")}


def shown(values, scale, digits):
    values = [scale * value for value in values if value is not None]
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)):.{digits}f}"


def read(folder):
    """{(subtask, rotation, step): {"loss" or (length, metric): [a value per seed]}} of all runs in the folder."""
    rows = {}
    for path in sorted(pathlib.Path(folder).glob("*/evals.jsonl")):
        subtask, rope, _ = path.parent.name.split("-")
        losses = [json.loads(line)["loss"] for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        seen = set()
        for record in map(json.loads, path.read_text().splitlines()):
            step = record["step"]
            row = rows.setdefault((subtask, rope, step), {})
            if step not in seen:
                before = losses[max(0, step - 50):step]
                row.setdefault("loss", []).append(sum(before) / len(before))
                seen.add(step)
            for _, length, metric in FIGURES:
                if record["length"] == length:
                    row.setdefault((length, metric), []).append(record["metrics"].get(metric))
    return rows


STYLE = "<style>text{fill:#222;font:12px system-ui,sans-serif}.axis{stroke:#ccc}</style>"
# Trained with, evaluated with, and how the picture names it.
SETTINGS = [("rope", "own", "RoPE"), ("resonance", "own", "Resonance"), ("yarn", "own", "YaRN"),
            ("resonance_yarn", "own", "Resonance YaRN"), ("rope", "yarn_in_evaluation", "RoPE, then YaRN"),
            ("resonance", "resonance_yarn_in_evaluation", "Resonance, then Resonance YaRN")]


def panel(left, title, series, low, high, last_step):
    """One chart of 250 × 190 at `left`; series: {rotation: [(step, values)]}."""
    def x(step):
        return left + 250 * step / last_step

    def y(value):
        return 220 - 190 * (value - low) / (high - low)

    parts = [f'<text x="{left}" y="18">{title}</text>']
    for i in range(5):
        value = round(low + (high - low) * i / 4, 2)
        parts.append(f'<line class="axis" x1="{left}" x2="{left + 250}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                     f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for i in range(4):
        step = last_step * i // 3
        name = f"step {step}" if i == 0 else step
        parts.append(f'<text x="{x(step):.1f}" y="238" text-anchor="middle">{name}</text>')
    for rope, points in series.items():
        colour = ROTATIONS[rope][1]
        upper = [f"{x(step):.1f},{y(max(values)):.1f}" for step, values in points]
        lower = [f"{x(step):.1f},{y(min(values)):.1f}" for step, values in reversed(points)]
        mean = [f"{x(step):.1f},{y(sum(values) / len(values)):.1f}" for step, values in points]
        parts.append(f'<polygon fill="{colour}" opacity=".18" points="{" ".join(upper + lower)}"/>'
                     f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(mean)}"/>')
    return parts


def picture(rows, subtask):
    def series(key, scale=1):
        found = {rope: [(step, [scale * value for value in row[key]]) for (task, name, step), row in sorted(rows.items())
                        if task == subtask and name == rope and key in row] for rope in ROTATIONS}
        return {rope: points for rope, points in found.items() if points}

    losses, accuracy = series("loss"), series((256, "ood_accuracy"), 100)
    last_step = max(step for points in losses.values() for step, _ in points)
    values = [value for points in losses.values() for _, seeds in points for value in seeds]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 290" role="img" '
             f'aria-label="training loss and accuracy out of distribution during training on {subtask}">{STYLE}'
             '<rect width="660" height="290" fill="#fff"/>']
    low = math.floor(5 * min(values)) / 5
    parts += panel(50, "training loss, nats per token", losses, low, low + 0.4 * math.ceil((max(values) - low) / 0.4),
                   last_step)
    parts += panel(370, "accuracy at 65 to 256 tokens, %", accuracy, 0, 100, last_step)
    for i, rope in enumerate(losses):
        name, colour = ROTATIONS[rope]
        parts.append(f'<rect x="{50 + 145 * i}" y="262" width="14" height="4" fill="{colour}"/>'
                     f'<text x="{70 + 145 * i}" y="269">{name}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def accuracies(folder, subtask):
    """{(trained with, evaluated with): [(accuracy within 64 tokens, from 65 to 256), a pair per seed]} from the sweeps."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob(f"{subtask}-*/sweep/table.csv")):
        with path.open(newline="") as file:
            values = {(row["rope"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)
                      if row["task"] == "posgen" and row["length"] == "256"}
        for rotation in {rotation for rotation, _ in values}:
            found.setdefault((path.parent.parent.name.split("-")[1], rotation), []).append(
                (values[rotation, "id_accuracy"], values[rotation, "ood_accuracy"]))
    return found


def dots(found, subtask):
    settings = [setting for setting in SETTINGS if setting[:2] in found]
    values = [value for setting in settings for pair in found[setting[:2]] for value in pair]
    top = math.ceil(5 * max(values, default=1)) / 5

    def x(accuracy):
        return 230 + 380 * accuracy / top

    height = 40 + 26 * len(settings)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {height + 44}" role="img" '
             f'aria-label="accuracy on {subtask} by rotation and seed">{STYLE}<rect width="660" height="{height + 44}" fill="#fff"/>']
    for percent in range(0, round(100 * top) + 1, 20):
        parts.append(f'<line class="axis" x1="{x(percent / 100):.1f}" x2="{x(percent / 100):.1f}" y1="24" y2="{height - 8}"/>'
                     f'<text x="{x(percent / 100):.1f}" y="{height + 8}" text-anchor="middle">{percent} %</text>')
    for i, (trained, evaluated, name) in enumerate(settings):
        y, colour = 40 + 26 * i, ROTATIONS[trained][1]
        parts.append(f'<text x="218" y="{y + 4}" text-anchor="end">{name}</text>')
        for within, beyond in found[trained, evaluated]:
            parts.append(f'<circle cx="{x(within):.1f}" cy="{y}" r="5" fill="none" stroke="{colour}" stroke-width="1.5"/>'
                         f'<circle cx="{x(beyond):.1f}" cy="{y}" r="5" fill="{colour}" opacity=".8"/>')
    parts.append(f'<text x="14" y="{height + 32}">filled: at 65 to 256 tokens; open: within the trained 64; a dot per seed</text>')
    return "\n".join(parts) + "\n</svg>\n"


def main():
    rows = read(sys.argv[1])
    print("| subtask | trained with | step | training loss | " + " | ".join(name for name, _, _ in FIGURES) + " |")
    print("|---" * (4 + len(FIGURES)) + "|")
    order = list(ROTATIONS)
    for (subtask, rope, step), row in sorted(rows.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2])):
        print(f"| {subtask} | {rope} | {step} | {shown(row['loss'], 1, 3)} | " +
              " | ".join(shown(row.get((length, metric), []), 100, 2) for _, length, metric in FIGURES) + " |")
    for subtask in {subtask for subtask, _, _ in rows}:
        out = pathlib.Path(sys.argv[1])
        (out / f"course-{subtask}.svg").write_text(picture(rows, subtask))
        (out / f"accuracy-{subtask}.svg").write_text(dots(accuracies(out, subtask), subtask))


if __name__ == "__main__":
    main()
