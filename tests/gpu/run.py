"""Started by run.sh: runs the parts in turn within the budget, then writes one JSON and one HTML file. Exits with 0
only if no part failed. README.md describes the parts and the JSON. Standard library only."""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import time
import traceback

import bench
import device_tests
import facts
import longest
import profiler
import report
import resume
import sanitizer
import training
from children import Failed, Skipped
from context import FAILED, PASSED, SKIPPED, Context, Record
from machine import ROOT, Machine, commit, host_memory, processor
from sizes import DEVICE, REHEARSAL

# The most informative parts come first, because a short budget leaves out later ones. The driver may refuse the last
# two.
PARTS = [facts, device_tests, training, bench, longest, resume, sanitizer, profiler]
SCHEMA = 1
REPORT_SECONDS = 3
REHEARSED_FASTER = 20  # divides the least seconds of a part in a rehearsal


def arguments():
    names = ", ".join(part.NAME for part in PARTS)
    parser = argparse.ArgumentParser(prog="run.sh", description="Tests and measures Carillon on this machine's GPU.")
    parser.add_argument("--build", default=str(ROOT / "build"), help="folder of the built program (%(default)s)")
    parser.add_argument("--output", default=str(ROOT / "runs" / "gpu"),
                        help="where gpu.json and gpu.html go (%(default)s)")
    parser.add_argument("--budget", type=float, default=520, metavar="SECONDS",
                        help="for everything; parts that do not fit are skipped (%(default)s)")
    parser.add_argument("--only", default="", metavar="PART,…", help=f"of {names}; facts always runs")
    parser.add_argument("--loss-bound", type=float, default=2e-2, metavar="X",
                        help="relative difference of bfloat16 losses from the CPU's (%(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="under emulation, at tiny sizes")
    chosen = parser.parse_args()
    chosen.only = [name for name in chosen.only.split(",") if name]
    for name in chosen.only:
        if name not in [part.NAME for part in PARTS]:
            parser.error(f"--only {name}: the parts are {names}")
    return chosen


def run_part(part, context):
    """Runs a part and fills its record. An error in one part does not prevent the others from running."""
    record = context.record
    begin = time.monotonic()
    try:
        part.run(context)
        record.settle()
    except Skipped as reason:
        record.status, record.reason = SKIPPED, str(reason)
    except Failed as error:
        record.status, record.reason = FAILED, str(error)
        context.keep_log(error.log)
    except (KeyError, TypeError, ValueError, OSError) as error:
        # A missing key or file: the output of a program is not what this script expects.
        record.status, record.reason = FAILED, f"{type(error).__name__}: {error}"
        context.keep_log("".join(traceback.format_exception(error)))
    record.seconds = time.monotonic() - begin


def why_not(part, chosen, left, records):
    """The reason to skip a part before it begins, or "". facts always runs."""
    if part is facts:
        return ""
    if chosen.only and part.NAME not in chosen.only:
        return "not asked for (--only)"
    if records[0].status == FAILED:
        return "nothing runs without a device: see facts"
    least = part.LEAST / (REHEARSED_FASTER if chosen.rehearse else 1)
    if left < least:
        return f"{max(left, 0):.0f} s of the budget are left, it takes {least:.0f} s at least"
    return ""


def main():
    chosen = arguments()
    begin, started = time.monotonic(), datetime.datetime.now(datetime.timezone.utc)
    machine = Machine(chosen.build, chosen.rehearse)
    sizes = REHEARSAL if chosen.rehearse else DEVICE
    if chosen.rehearse:
        machine.environment.setdefault("CARILLON_EMULATION", sizes.emulation)
    output = pathlib.Path(chosen.output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="carillon-gpu-"))
    records = []
    try:
        for part in PARTS:
            record = Record(part.NAME, part.TITLE)
            left = chosen.budget - REPORT_SECONDS - (time.monotonic() - begin)
            record.reason = why_not(part, chosen, left, records)
            print(f"{part.NAME}: {record.reason or part.TITLE}", flush=True)
            if not record.reason:
                deadline = time.monotonic() + (part.MOST if part is facts else min(left, part.MOST))
                earlier = {done.name: done.figures for done in records if done.status == PASSED}
                run_part(part, Context(machine, sizes, folder, output, chosen.loss_bound, deadline, record, earlier))
                why = f": {record.reason}" if record.reason else ""
                print(f"  {record.status}, {record.seconds:.1f} s{why}", flush=True)
            records.append(record)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    failed = [record.name for record in records if record.status == FAILED]
    result = {
        "schema": SCHEMA, "rehearsal": chosen.rehearse, "status": FAILED if failed else PASSED,
        "started": started.isoformat(timespec="seconds"), "seconds": time.monotonic() - begin, "budget": chosen.budget,
        "commit": commit(machine.build), "arguments": sys.argv[1:],
        "machine": {"device": machine.device, "devices": machine.devices, "capability": machine.capability,
                    "memory_bytes": machine.memory_bytes, "processor": processor(),
                    "cores": len(os.sched_getaffinity(0)), "host_memory_bytes": host_memory(),
                    "system": platform.platform(), "python": platform.python_version(), "peaks": machine.peaks()},
        "parts": [dataclasses.asdict(record) for record in records]}
    (output / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (output / "gpu.html").write_text(report.page(result))
    counts = {status: sum(record.status == status for record in records) for status in (PASSED, FAILED, SKIPPED)}
    print(f"{', '.join(f'{count} {status}' for status, count in counts.items())} in {result['seconds']:.0f} s"
          f"{'; failed: ' + ', '.join(failed) if failed else ''}\n{output / 'gpu.json'}\n{output / 'gpu.html'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
