"""The input of a part (Context) and its result (Record): checks and figures."""

import dataclasses
import pathlib
import time

from machine import Machine
from sizes import Sizes

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclasses.dataclass
class Record:
    """A part's entry in the JSON (README.md)."""
    name: str
    title: str
    status: str = SKIPPED
    reason: str = ""
    seconds: float = 0
    checks: list = dataclasses.field(default_factory=list)
    figures: dict = dataclasses.field(default_factory=dict)
    log: str = ""

    def settle(self):
        """Sets the status: failed if a check failed, else passed if a check passed, else skipped."""
        found = {check["status"] for check in self.checks}
        self.status = next((status for status in (FAILED, PASSED) if status in found), SKIPPED)
        if not self.reason:
            self.reason = "; ".join(f"{check['name']}: {check['text']}" for check in self.checks
                                    if check["status"] == self.status and self.status != PASSED)


@dataclasses.dataclass
class Context:
    machine: Machine
    sizes: Sizes
    folder: pathlib.Path  # temporary files of the parts; removed at the end
    output: pathlib.Path  # the report, and other files to keep
    loss_bound: float
    deadline: float       # of the current part, time.monotonic()
    record: Record
    earlier: dict         # records of the earlier parts, by name

    def left(self):
        return self.deadline - time.monotonic()

    def say(self, text):
        print(f"    {text}", flush=True)

    def check(self, name, good, text):
        self.add(name, PASSED if good else FAILED, text)

    def skip(self, name, why):
        self.add(name, SKIPPED, why)

    def add(self, name, status, text):
        self.record.checks.append({"name": name, "status": status, "text": text})
        self.say(f"{status:7} {name}: {text}")

    def keep_log(self, text):
        self.record.log = (self.record.log + text)[-4000:]
