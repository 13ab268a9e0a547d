"""Compares Carillon with PyTorch on this machine: attention, whole steps, memory, the ring, and how time grows with
length. Prints a Markdown table; README.md in this folder explains the columns.

    python tests/benchmarks/compare_pytorch.py --only attention,step --repeats 3 --markdown table.md --json table.json
"""

import argparse
import collections
import json
import pathlib
import sys

import cost
import report
from report import Row, number, with_rate
from runs import GIB, Failed, Runs, median

PARTS = ("attention", "step", "small", "memory", "ring", "fit")


class Comparison:
    def __init__(self, runs, arguments):
        self.runs, self.arguments = runs, arguments
        self.rows, self.notes, self.samples, self.fit_text, self.fit_record = [], [], [], "", None
        self.limit_samples = collections.defaultdict(list)
        self.compile = arguments.compile

    # ---- measuring

    def alternate(self, part, candidates, repeats=None):
        """Runs all candidates in turn, in reverse order every other time. Returns {name: [result of each repeat, None
        if it failed]}."""
        results = {name: [] for name in candidates}
        failed = set()
        for repeat in range(repeats or self.arguments.repeats):
            names = list(candidates)
            for name in names if repeat % 2 == 0 else names[::-1]:
                result = None
                if name not in failed:
                    try:
                        result = candidates[name]()
                    except Failed as error:
                        failed.add(name)
                        self.notes.append(f"{part}, {name}: {error}.")
                results[name].append(result)
                self.samples.append({"part": part, "name": name, "repeat": repeat, "result": result})
                print(f"{part}, {repeat + 1}: {name}: {brief(result)}", file=sys.stderr, flush=True)
        return results

    def limit(self, dtype):
        def run():
            result = self.runs.limit(dtype)
            self.limit_samples[dtype].append((result["gflops"], result["by"]))
            return result

        return run

    def limits(self):
        """{dtype: (median rate, the library that was fastest most often)}."""
        return {dtype: (median([rate for rate, _ in samples]),
                        collections.Counter(by for _, by in samples).most_common(1)[0][0])
                for dtype, samples in self.limit_samples.items()}

    # ---- rows

    def of_limit(self, measure, results, carillon, pytorch, goal):
        def share(name):
            return with_rate(paired(results[name], results["limit"]), middle(results[name]), "GFLOP/s")

        best = max(pytorch, key=lambda name: middle(results[name]) or 0)
        self.rows.append(Row(measure, "of limit", share(best), share(carillon),
                             paired(results[carillon], results["limit"]), goal))

    def times(self, measure, results, carillon, pytorch, title, goal):
        """Adds a row: tokens per second as a multiple of PyTorch's."""
        value = paired(results[carillon], results[pytorch], "tokens")
        self.rows.append(Row(measure, f"× {title}", with_rate(1, middle(results[pytorch], "tokens"), "tokens/s"),
                             with_rate(value, middle(results[carillon], "tokens"), "tokens/s"), value, goal))

    # ---- parts

    def attention(self):
        cases = [("bfloat16", False, length, 0.85) for length in self.arguments.forward_lengths]
        cases += [("bfloat16", True, self.arguments.attention_length, 0.82)]
        cases += [("float32", True, self.arguments.attention_length, 0.88)]
        for dtype, backward, length, goal in cases:
            measure = f"attention forward{' + backward' if backward else ''}, {dtype}, S = {length}"
            results = self.alternate(measure, {
                "limit": self.limit(dtype),
                "carillon": lambda: self.runs.carillon_attention(dtype, backward, length),
                "pytorch": lambda: self.runs.pytorch_attention(dtype, backward, length),
            })
            self.of_limit(measure, results, "carillon", ["pytorch"], goal)

    def step_candidates(self, geometry, length, sequences, dtype, modes):
        """Carillon, and PyTorch in each mode, also compiled if torch.compile works."""
        steps = self.arguments.steps + (5 if geometry is cost.SMALL else 0)  # its steps take a second

        def pytorch(mode, compiled):
            return lambda: self.runs.pytorch_step(geometry, length, sequences, mode, steps, compiled=compiled)

        candidates = {"limit": self.limit(dtype),
                      "carillon": lambda: self.runs.carillon_step(geometry, length, sequences, dtype,
                                                                  self.arguments.recompute, steps)}
        for mode in modes:
            candidates[mode] = pytorch(mode, False)
            if self.compile:
                candidates[f"{mode} compiled"] = pytorch(mode, True)
        return candidates

    def versions_of(self, mode):
        return [mode, f"{mode} compiled"] if self.compile else [mode]

    def compare_steps(self, measure, geometry, length, sequences, dtype, of_limit, times):
        """`times`: {PyTorch's mode: (its title, goal)}."""
        modes = list(times) or ["float32"]
        results = self.alternate(measure, self.step_candidates(geometry, length, sequences, dtype, modes))
        versions = [version for mode in modes for version in self.versions_of(mode)]
        if of_limit is not None:
            self.of_limit(measure, results, "carillon", versions, of_limit)
        for mode, (title, goal) in times.items():
            for version in self.versions_of(mode):
                compiled = ", compiled" if version != mode else ""
                self.times(measure, results, "carillon", version, title + compiled, goal)

    def step(self):
        autocast, pure = "PyTorch autocast", "PyTorch pure bf16"
        cases = [
            (2048, "bfloat16", 0.78, {"autocast": (autocast, 2.6), "bfloat16": (pure, 1.8)}),
            (8192, "bfloat16", 0.75, {"bfloat16": (pure, 2.5)}),
            (2048, "float32", 0.85, {}),
            (512, "float32", 0.75, {}),
        ]
        for length, dtype, of_limit, times in cases:
            if self.arguments.step_lengths and length not in self.arguments.step_lengths:
                continue
            name = "bf16 over float32 weights" if dtype == "bfloat16" else dtype
            self.compare_steps(f"whole step, {name}, S = {length}", cost.LARGE, length, 1, dtype, of_limit, times)

    def small(self):
        self.compare_steps("small model, float32", cost.SMALL, 256, 64, "float32", 0.75, {})
        self.compare_steps("small model, bf16 over float32 weights", cost.SMALL, 256, 64, "bfloat16", None,
                           {"autocast": ("PyTorch autocast", 2)})

    def memory(self):
        length, steps = self.arguments.memory_length, 2
        modes = self.arguments.memory_recompute

        def carillon(recompute):
            return lambda: self.runs.carillon_step(cost.LARGE, length, 1, "bfloat16", recompute, steps)

        def pytorch(mode):
            return lambda: self.runs.pytorch_step(cost.LARGE, length, 1, mode, steps, checkpointing=True)

        results = self.alternate("memory", {
            **{f"recompute {mode}": carillon(mode) for mode in modes},
            **{mode: pytorch(mode) for mode in ("autocast", "bfloat16")},
        }, repeats=1)
        peaks = {name: median([result["peak"] / GIB for result in results[name] if result]) for name in results}
        text = ", ".join(f"{number(peaks[mode])} {title}" for mode, title in
                         (("autocast", "autocast"), ("bfloat16", "pure bf16"))) + ", checkpointing"
        for mode in modes:
            peak = peaks[f"recompute {mode}"]
            goal = 3.2 if mode == "selective" else None
            self.rows.append(Row(f"peak memory, S = {length}, bf16, recompute {mode}", "GiB", text, number(peak), peak,
                                 goal, at_most=True))

    def ring(self):
        length, threads = self.arguments.ring_length, self.arguments.threads
        results = self.alternate("ring", {
            f"{threads} ranks": lambda: self.runs.carillon_ring(threads, 1, length),
            "1 rank": lambda: self.runs.carillon_ring(1, threads, length),
            "pytorch": lambda: self.runs.pytorch_ring(threads, 1, length, "bfloat16"),
        })
        many, one, pytorch = results.values()
        for dtype in ("bfloat16", "float32"):
            value = paired(many, one, dtype)
            measure = f"ring attention forward + backward, {dtype}, S = {length}, {threads} ranks × 1 thread"
            self.rows.append(Row(measure, f"× 1 rank × {threads} threads", "",
                                 with_rate(value, middle(many, dtype), "GFLOP/s"), value, 0.95))
        value = paired(many, pytorch, "bfloat16", "gflops")
        self.rows.append(Row(f"the same, bfloat16, S = {length}", "× zigzag ring on torch.distributed (gloo)",
                             with_rate(1, middle(pytorch), "GFLOP/s"),
                             with_rate(value, middle(many, "bfloat16"), "GFLOP/s"), value, 2.3))

    def fit(self):
        """Fits seconds per token = a + b·S by least squares, and compares with the same FLOPs at the limit's rate."""
        results = self.alternate("fit", {
            "limit": self.limit("bfloat16"),
            **{length: self.fit_step(length) for length in self.arguments.fit_lengths},
        }, repeats=1)
        rate = middle(results["limit"])
        seconds = {length: 1 / middle(results[length], "tokens") for length in self.arguments.fit_lengths
                   if middle(results[length], "tokens")}
        if len(seconds) < 2 or rate is None:
            self.notes.append("fit: fewer than two lengths were measured.")
            return
        a, b = least_squares(seconds)
        width = cost.LARGE["num_attention_heads"] * cost.LARGE["head_dim"]
        ideal_a = 6 * cost.matrix_parameters(cost.LARGE) / (rate * 1e9)
        ideal_b = 6 * width * cost.LARGE["num_hidden_layers"] / (rate * 1e9)
        lines = [[str(length), f"{1e6 * time:.1f}", f"{1e6 * (a + b * length):.1f}",
                  f"{100 * (time / (a + b * length) - 1):+.1f} %", f"{1e6 * (ideal_a + ideal_b * length):.1f}",
                  f"{(ideal_a + ideal_b * length) / time:.2f}"] for length, time in seconds.items()]
        self.fit_text = "\n\n".join([
            f"Microseconds a token of a whole step, bf16, recompute selective: {1e6 * a:.1f} + {1e6 * b:.5f}·S (least "
            f"squares); (6·N + 6·S·a·d·L)/limit is {1e6 * ideal_a:.1f} + {1e6 * ideal_b:.5f}·S, {ideal_a / a:.2f} and "
            f"{ideal_b / b:.2f} of them.",
            report.table(["S", "measured", "fitted", "residual", "at the limit", "of limit"], lines)])
        self.fit_record = {"a": a, "b": b, "limit_a": ideal_a, "limit_b": ideal_b, "seconds_per_token": seconds}

    def fit_step(self, length):
        # The second of two steps; a single step at lengths where it takes minutes and starting up is negligible.
        steps = 2 if length <= 8192 else 1
        return lambda: self.runs.carillon_step(cost.LARGE, length, 1, "bfloat16", "selective", steps)

    def try_compile(self):
        """Finds out, on a small step, whether torch.compile works here."""
        try:
            compiled, eager = (self.runs.pytorch_step(cost.SMALL, 256, 8, "bfloat16", 4, compiled=compiled)
                               for compiled in (True, False))
            speed = eager["seconds"] / compiled["seconds"]
            self.notes.append(f"torch.compile works; small model, 8 sequences: {speed:.2f} times eager's speed.")
        except Failed as error:
            self.compile = False
            self.notes.append(f"torch.compile does not work here ({error}): PyTorch's figures are eager.")

    def save(self, environment):
        limits = self.limits()
        text = report.markdown(environment, limits, self.rows, self.fit_text, self.notes)
        if self.arguments.markdown:
            pathlib.Path(self.arguments.markdown).write_text(text)
        if self.arguments.json:
            record = {"environment": environment, "limits": limits, "notes": self.notes, "fit": self.fit_record,
                      "rows": [{**vars(row), "verdict": row.verdict()} for row in self.rows], "samples": self.samples}
            pathlib.Path(self.arguments.json).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return text


def middle(results, field="gflops"):
    return median([result[field] for result in results if result])


def paired(mine, other, field="gflops", other_field=None):
    """The median over repeats of the ratio within a repeat, so that anything slowing a whole repeat cancels."""
    return median([a[field] / b[other_field or field] for a, b in zip(mine, other) if a and b])


def least_squares(points):
    """(a, b) of y = a + b·x."""
    mean_x, mean_y = sum(points) / len(points), sum(points.values()) / len(points)
    b = sum((x - mean_x) * (y - mean_y) for x, y in points.items()) / sum((x - mean_x) ** 2 for x in points)
    return mean_y - b * mean_x, b


def brief(result):
    if result is None:
        return "failed"
    return ", ".join(f"{key} {value:.4g}" for key, value in result.items() if isinstance(value, float | int))


def parse(words):
    def whole_numbers(text):
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, of " + ",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--carillon", default="build/carillon", help="the program; the benchmarks lie beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="of a whole-step run; the first does not count")
    parser.add_argument("--recompute", default="none", choices=("none", "selective", "full"), help="of whole steps")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True,
                        help="PyTorch's whole steps also with torch.compile, where it works")
    parser.add_argument("--forward-lengths", type=whole_numbers, default=[8192, 32768])
    parser.add_argument("--attention-length", type=int, default=8192, help="of forward + backward")
    parser.add_argument("--step-lengths", type=whole_numbers, default=[], help="only these of 2048, 8192, 512")
    parser.add_argument("--memory-length", type=int, default=8192)
    parser.add_argument("--memory-recompute", type=lambda text: text.split(","), default=["selective", "none"])
    parser.add_argument("--ring-length", type=int, default=8192)
    parser.add_argument("--fit-lengths", type=whole_numbers, default=[2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one process")
    parser.add_argument("--markdown", help="also write the table here")
    parser.add_argument("--json", help="write every figure here")
    arguments = parser.parse_args(words)
    arguments.only = arguments.only.split(",")
    unknown = [part for part in arguments.only if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {unknown[0]}; there are {', '.join(PARTS)}")
    return arguments


def main(words=None):
    arguments = parse(words)
    runs = Runs(arguments.carillon, arguments.threads, arguments.timeout)
    comparison = Comparison(runs, arguments)
    environment = report.describe_environment(runs, arguments)
    if {"step", "small"} & set(arguments.only):
        if comparison.compile:
            comparison.try_compile()
        else:
            comparison.notes.append("torch.compile was not tried: PyTorch's figures are eager.")
    text = ""
    for part in arguments.only:
        getattr(comparison, part)()
        text = comparison.save(environment)  # after each part, so a later failure loses nothing
    print(text)


if __name__ == "__main__":
    main()
