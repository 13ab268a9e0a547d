"""Runs the tests that a machine without a GPU skips or runs on the emulation: every op, and training, against the
reference."""

import json

from children import run_child
from sizes import NCCL_SHARED_TESTS

NAME, TITLE, LEAST, MOST = "tests", "ops, training and NCCL on the device against the reference", 15, 120


def run(context):
    machine = context.machine
    pieces = [("", binary) for binary in context.sizes.tests]
    if machine.devices == 1:  # tests of several ranks run nevertheless, on ranks that share the device
        pieces += [("on one device through host memory", binary) for binary in context.sizes.shared_tests]
        pieces += [("on one device over NCCL", binary) for binary in nccl_on_one_device(context)]
    for how, binary in pieces:
        name = f"{binary.path.rsplit('/', 1)[-1].removesuffix('_test')} {how}".strip()
        program = machine.build / "tests" / binary.path
        if not program.exists():
            context.skip(name, f"{program} is not built")
            continue
        if context.left() < 3:
            context.skip(name, "no time left")
            continue
        report = context.folder / f"{name}.json".replace(" ", "-")
        done = run_child([program, f"--gtest_filter={binary.filter}", f"--gtest_output=json:{report}"],
                         machine.with_values(values=binary.environment), context.left())
        judge(context, name, done, report)


def nccl_on_one_device(context):
    """The NCCL tests of ranks that share one device. NCCL supports this from 2.30 on, experimentally; with an older
    version NCCL is tested with one rank only."""
    version = context.machine.nccl_version(context.earlier["facts"]["info"])
    allowed = version >= (2, 30)
    text = (f"NCCL {version[0]}.{version[1]}: two ranks on one device are tried" if allowed else
            f"NCCL {version[0]}.{version[1]} does not take two ranks on one device: one rank alone was run over it")
    context.record.figures["nccl_on_one_device"] = text
    context.say(text)
    return NCCL_SHARED_TESTS if allowed else []


def judge(context, name, done, report):
    """Makes one check per program; a test that did not run does not count as passed."""
    if done.stopped or not report.exists():
        context.keep_log(done.text())
        return context.check(name, False, done.stopped or f"exit code {done.code}, no report")
    tests = [{"name": f"{suite['name']}.{test['name']}", "result": test["result"], "seconds": test["time"],
              "failures": [failure["failure"] for failure in test.get("failures", [])]}
             for suite in json.loads(report.read_text())["testsuites"] for test in suite["testsuite"]]
    failed = [test["name"] for test in tests if test["failures"]]
    ran = [test for test in tests if test["result"] == "COMPLETED"]
    left_out = sorted({line for line in done.output.splitlines() if line.startswith("left out: ")})
    context.record.figures[name] = {"tests": tests, "left_out": left_out, "seconds": done.seconds}
    if failed or done.code != 0:
        context.keep_log(done.text())
        some = ", ".join(failed[:6]) + (", …" if len(failed) > 6 else "")
        text = f"{len(failed)} of {len(ran)} failed: {some}" if failed else f"exit code {done.code}"
        return context.check(name, False, text)
    if not ran:
        skipped = next((line for line in done.output.splitlines() if "SKIPPED" in line), "every test was skipped")
        return context.skip(name, skipped.strip())
    more = f", {len(tests) - len(ran)} skipped" if len(tests) > len(ran) else ""
    more += f"; {'; '.join(left_out)}" if left_out else ""
    return context.check(name, True, f"{len(ran)} passed in {done.seconds:.0f} s{more}")
