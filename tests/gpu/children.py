"""Starts programs with a time limit: each runs in its own process group and writes its output to files."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import tempfile
import time

TAIL = 4000  # characters of a log that go into the report


class Failed(Exception):
    """A part or child failed: one line of text, and the end of the output."""

    def __init__(self, text, log=""):
        super().__init__(text)
        self.log = log[-TAIL:]


class Skipped(Exception):
    """A part cannot run here: one line that says why."""


@dataclasses.dataclass
class Done:
    code: int | None  # None: stopped
    output: str
    errors: str
    seconds: float
    stopped: str = ""  # why it was stopped; "" if it was not

    def text(self):
        return self.output + self.errors


def end_group(process):
    """Kills the child and all processes of its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run_child(command, environment, seconds, until=None):
    """Runs a command for at most `seconds`. Polls `until()`; the child is stopped once it returns a text, the
    reason."""
    command = [str(word) for word in command]
    begin = time.monotonic()
    with (tempfile.TemporaryFile("w+", errors="replace") as output,
          tempfile.TemporaryFile("w+", errors="replace") as errors):
        process = subprocess.Popen(command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL, env=environment,
                                   start_new_session=True)
        stopped = ""
        try:
            while process.poll() is None and not stopped:
                if time.monotonic() - begin > seconds:
                    stopped = f"stopped after {seconds:.0f} s"
                elif until is not None:
                    stopped = until() or ""
                time.sleep(0.05)
        finally:
            end_group(process)
        output.seek(0)
        errors.seek(0)
        code = None if stopped else process.returncode
        return Done(code, output.read(), errors.read(), time.monotonic() - begin, stopped)


def require(command, environment, seconds):
    """Like run_child, but raises Failed unless the command exits with 0."""
    done = run_child(command, environment, seconds)
    if done.code != 0:
        name = f"{pathlib.Path(str(command[0])).name} {command[1] if len(command) > 1 else ''}".strip()
        lines = done.errors.strip().splitlines() or done.output.strip().splitlines() or ["no message"]
        raise Failed(f"{name}: {done.stopped or f'exit code {done.code}'}: {lines[-1][:400]}", done.text())
    return done
