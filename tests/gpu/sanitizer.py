"""Runs compute-sanitizer on a few small tests, to find errors that no comparison of results shows. It checks only
Carillon's own kernels (their names contain its namespace), because cuBLASLt's are NVIDIA's and would take most of the
time."""

import re

from children import run_child

NAME, TITLE, LEAST, MOST = "sanitizer", "compute-sanitizer", 20, 120
TOOLS = ["memcheck", "racecheck", "synccheck", "initcheck"]
REFUSED = re.compile(r"Device not supported|not supported on this (?:device|system)|Unable to find injection", re.I)
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")


def run(context):
    machine = context.machine
    tool = machine.tool("compute-sanitizer")
    if tool is None:
        return context.skip("compute-sanitizer", "not installed")
    pieces = [(check, path, chosen) for check in TOOLS for path, chosen in context.sizes.sanitized
              if (machine.build / "tests" / path).exists()]
    if not pieces:
        return context.skip("compute-sanitizer", "no test program is built")
    for index, (check, path, chosen) in enumerate(pieces):
        name = f"{check} {path.rsplit('/', 1)[-1].removesuffix('_test')}"
        share = context.left() / (len(pieces) - index)
        if share < 3 and not machine.rehearsal:
            context.skip(name, "no time left")
            continue
        command = [tool, "--tool", check, "--error-exitcode", "86", "--kernel-regex", "kns=carillon",
                   machine.build / "tests" / path, f"--gtest_filter={chosen}"]
        judge(context, name, run_child(command, machine.with_values(values={"CARILLON_TEST_DEVICE": "cuda"}),
                                       max(share, 10)))
    return None


def judge(context, name, done):
    """Makes the check of a run. A run that was stopped as too slow is skipped, since it shows nothing."""
    text = done.text()
    if done.stopped:
        return context.skip(name, f"not done: {done.stopped}")
    if REFUSED.search(text):
        return context.skip(name, f"refused: {REFUSED.search(text).group(0)}")
    found = SUMMARY.search(text)
    context.record.figures[name] = {"seconds": done.seconds, "errors": int(found.group(1)) if found else None}
    if found is None or done.code != 0 or int(found.group(1)) > 0:
        context.keep_log(text)
        return context.check(name, False, f"{found.group(0) if found else 'no summary'}, exit code {done.code}")
    return context.check(name, True, f"nothing found in {done.seconds:.0f} s")
