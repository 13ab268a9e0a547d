"""Runs Nsight Compute on one launch of five kernels and keeps its CSV next to the report. Runs last because it is often
refused: by default the driver lets only root read the counters."""

import csv
import io

from children import run_child

NAME, TITLE, LEAST, MOST = "profiler", "Nsight Compute on five kernels", 20, 90
SECTIONS = ["SpeedOfLight", "Occupancy", "MemoryWorkloadAnalysis"]


def run(context):
    machine, sizes = context.machine, context.sizes
    tool = machine.tool("ncu")
    if tool is None:
        return context.skip("ncu", "not installed")
    for index, (kernel, path, chosen) in enumerate(sizes.profiled):
        share = context.left() / (len(sizes.profiled) - index)
        program = machine.build / "tests" / path
        if not program.exists() or (share < 3 and not machine.rehearsal):
            context.skip(kernel, f"{program.name} is not built" if not program.exists() else "no time left")
            continue
        sections = [word for section in SECTIONS for word in ("--section", section)]
        done = run_child([tool, "--csv", "--launch-count", "1", "--kernel-name", f"regex:{kernel}", *sections, program,
                          f"--gtest_filter={chosen}"], machine.with_values(values={"CARILLON_TEST_DEVICE": "cuda"}),
                         max(share, 10))
        keep(context, kernel, done)
    return None


def keep(context, kernel, done):
    """Records the figures of a kernel. Being refused or too slow is no failure."""
    if done.stopped:
        return context.skip(kernel, f"not done: {done.stopped}")
    if "ERR_NVGPUCTRPERM" in done.text():
        return context.skip(kernel, "refused: counters are for root here (ERR_NVGPUCTRPERM)")
    lines = [line for line in done.output.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    if not rows:
        context.keep_log(done.text())
        return context.skip(kernel, "no figures: " + (done.text().strip().splitlines() or ["no output"])[-1][:200])
    (context.output / f"ncu-{kernel}.csv").write_text("\n".join(lines) + "\n")
    figures = {row["Metric Name"]: f"{row['Metric Value']} {row['Metric Unit']}".strip() for row in rows}
    context.record.figures[kernel] = figures
    return context.check(kernel, True, f"{len(figures)} metrics: " + ", ".join(
        f"{name} {figures[name]}" for name in ("Duration", "Compute (SM) Throughput", "Memory Throughput")
        if name in figures))
