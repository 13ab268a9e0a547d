"""The table: one row per measure, with the median of its repeats and its goal."""

import dataclasses
import datetime
import json
import os
import pathlib
import subprocess


@dataclasses.dataclass
class Row:
    measure: str
    unit: str
    pytorch: str  # as printed
    carillon: str
    value: float | None  # the figure to compare with the goal
    goal: float | None = None
    at_most: bool = False

    def verdict(self):
        if self.value is None:
            return "failed"
        if self.goal is None:
            return ""
        return "ok" if (self.value <= self.goal if self.at_most else self.value >= self.goal) else "short"

    def cells(self):
        goal = "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {self.goal:g}"
        return [self.measure, self.unit, self.pytorch, self.carillon, goal, self.verdict()]


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def with_rate(value, rate, unit):
    """"0.83 (512 GFLOP/s)"."""
    return "–" if value is None or rate is None else f"{value:.2f} ({rate:.0f} {unit})"


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def describe_environment(runs, arguments):
    info = json.loads(runs.child([runs.carillon, "info", "--json"])[0])
    device = next(device for device in info["devices"] if device["name"] == "cpu")
    source = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                            cwd=pathlib.Path(__file__).parent).stdout.strip()
    return {"processor": processor(), "instruction_set": device["instruction_set"], "threads": arguments.threads,
            "repeats": arguments.repeats, "date": datetime.date.today().isoformat(), "source": source,
            "carillon_libraries": info["libraries"], "load_at_start": round(os.getloadavg()[0], 2),
            "pytorch": {name: value for name, value in runs.pytorch("versions").items() if name != "peak"}}


def markdown(environment, limits, rows, fit, notes):
    pytorch = environment["pytorch"]
    parts = [f"{environment['processor']} ({environment['instruction_set']}), {environment['threads']} threads, "
             f"{environment['date']}, load {environment['load_at_start']} at the start; "
             f"Carillon {environment['source']}, torch {pytorch['torch']}, transformers {pytorch['transformers']}, numpy {pytorch['numpy']}; "
             f"medians of {environment['repeats']}."]
    for dtype, (rate, by) in limits.items():
        parts.append(f"Limit in {dtype}: {rate:.0f} GFLOP/s ({by}).")
    if rows:
        parts.append(table(["measure", "unit", "PyTorch", "Carillon", "goal", ""], [row.cells() for row in rows]))
    if fit:
        parts.append(fit)
    parts += [f"Note: {note}" for note in notes]
    return "\n\n".join(parts) + "\n"
