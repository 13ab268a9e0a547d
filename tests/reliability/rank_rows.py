"""The rows of the scoreboard in which ranks fail, not disks: R13, R14, R15, R19, R20. Each row starts the program under
mpirun, either with the library of mpi_calls.cpp preloaded or with a place to hang in CARILLON_TEST_HANG, and checks
exit code and output."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

MPI_FAULTS = os.environ.get("MPI_FAULTS", "")
SECONDS = 2  # runtime.patience, in seconds of the watch's clock, which runs slower on a busy machine
LIMIT = 180  # seconds after which a command counts as hanging

# The places where a rank stops or spins, by the program's names of its activities (runtime/progress.h).
PLACES = ("opening the model", "reading data", "loading the model", "a training step", "an evaluation", "a checkpoint",
          "the end")
EVALUATION = ["eval.every_steps=2", "eval.lengths=[16]", "eval.tasks=[{task: perplexity}]"]


def ranks_alive(mark):
    """The running processes (no zombies) that have `mark` in their command lines."""
    alive = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in words and state not in "ZX" and int(entry.name) != os.getpid():
            alive.append(int(entry.name))
    return alive


def based(rig):
    """The configuration with the finished run as base model, so that there is a model to open and load."""
    config = rig.folder / "based.yaml"
    text = re.sub(r"model: \{.*?\}\n", f"model: {{base: {rig.alone}}}\n", rig.config.read_text(), flags=re.DOTALL)
    config.write_text(text)
    return config


def start(rig, output, *words, environment, preload=False, config=None):
    """Starts a run; returns (exit code, or None for a hang; standard error; another problem, or None)."""
    words = bb.command(2, "train", config or rig.config, f"output={output}", *words)
    if preload:
        environment = {**environment, "LD_PRELOAD": MPI_FAULTS}
    at = len(bb.MPIRUN)
    words[at:at] = [word for key, value in environment.items() for word in ("-x", f"{key}={value}")]
    before = set(os.listdir("/dev/shm"))
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
                               start_new_session=True)
    try:
        _, error = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        for pid in ranks_alive(str(output)):  # only ours have this folder in their command lines
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        return None, "", "hangs"
    def left():
        """What this run has left so far, or None; it may still disappear. Ignores leftovers from before this run,
        because others use this machine too."""
        if ranks_alive(str(output)):
            return "processes are left"
        memory = [name for name in set(os.listdir("/dev/shm")) - before if "carillon" in name]
        return f"left in shared memory: {memory}" if memory else None

    for _ in range(50):
        if not left():
            break
        time.sleep(0.1)
    return process.returncode, error, left()


def error_line(error):
    return next((line for line in error.splitlines() if line.startswith("carillon: error: ")), "")


def is_the_same_run(rig, output):
    code, error = rig.train(2, output, expect=None)
    if code != 0:
        return f"resuming: exit code {code}: {error[-300:]}"
    return None if bb.raw_fields(output) == rig.reference[2] else "resumed, it is another run"


def r13(rig, long, Row):
    row = Row("R13", "a rank dies: SIGKILL, SIGSEGV, exit(0)")
    codes = {"kill": (137,), "segv": (139,), "exit": (75,)}
    places = [("init", 1), ("gather", 5), ("gather", 40), ("send", 3), ("wait", 20), ("broadcast", 8), ("finalize", 1)]
    for action, expected in codes.items():
        for calls, at in places if long else [places[2]] + ([places[6]] if action == "exit" else []):
            for rank in (0, 1) if long else (1,):
                output = rig.fresh()
                code, error, trouble = start(rig, output, "parallel.context=2", preload=True, environment={
                    "MPI_FAULT_RANK": rank, "MPI_FAULT_CALLS": calls, "MPI_FAULT_AT": at, "MPI_FAULT_ACTION": action})
                if not trouble and code not in expected:
                    trouble = f"exit code {code}: {error[-300:]}"
                row.point(f"{action} in {calls} {at}, rank {rank}", trouble or is_the_same_run(rig, output))
                shutil.rmtree(output, ignore_errors=True)
    return row


def r14(rig, long, Row):
    row = Row("R14", "a rank is stopped, or spins, at seven places and in MPI")
    points = [(action, place, rank) for place in PLACES for action in ("stop", "spin") for rank in ((0, 1) if long else (1,))]
    if not long:
        points = [("spin", "loading the model", 1), ("stop", "an evaluation", 1), ("spin", "a checkpoint", 0)]
    resumed = 0
    for action, place, rank in points:
        output = rig.fresh()
        config = rig.config
        words = ["parallel.context=2", f"runtime.patience={SECONDS}s", *EVALUATION,
                 f"data.validation=[{{path: {rig.folder}/train.jsonl}}]"]
        if place in ("opening the model", "loading the model"):
            config = based(rig)
        code, error, trouble = start(rig, output, *words, config=config,
                                     environment={"CARILLON_TEST_HANG": f"{action}@{place}:{rank}"})
        line = error_line(error)
        if not trouble and code != 75:
            trouble = f"exit code {code}: {error[-400:]}"
        elif not trouble and not (f"rank {rank} has not moved" in line and os.uname().nodename in line and place in line):
            trouble = f"says {line}"
        row.point(f"{action} at {place}, rank {rank}", trouble)
        shutil.rmtree(output, ignore_errors=True)
    calls = [("init", 1), ("gather", 30), ("wait", 10), ("broadcast", 9), ("finalize", 1)]
    for action in ("stop", "spin"):
        for call, at in calls if long else calls[1:3]:
            output = rig.fresh()
            code, error, trouble = start(rig, output, "parallel.context=2", f"runtime.patience={SECONDS}s", preload=True,
                                         environment={"MPI_FAULT_RANK": 1, "MPI_FAULT_CALLS": call, "MPI_FAULT_AT": at,
                                                      "MPI_FAULT_ACTION": action})
            line = error_line(error)
            if not trouble and (code != 75 or "rank 1 has not moved" not in line):
                trouble = f"exit code {code}: {line or error[-300:]}"
            row.point(f"{action} in {call} {at}", trouble)
            resumed += not trouble and is_the_same_run(rig, output) is None
            shutil.rmtree(output, ignore_errors=True)
    # The control: a rank that is slow, in total for longer than the patience, must not be treated as stopped.
    output = rig.fresh()
    code, error, _ = start(rig, output, "parallel.context=2", "runtime.patience=6s", "train.max_steps=12",
                           environment={"CARILLON_TEST_HANG": "slow700@a training step:1"})
    row.point("merely slow", None if code == 0 else f"exit code {code}: {error[-300:]}")
    row.control = f"{resumed} resumed"
    return row


def r15(rig, long, Row):
    row = Row("R15", "a collective left out, made twice, or of another count")
    points = [(call, action, at) for call in ("gather", "broadcast", "send") for action in ("skip", "twice", "less")
              for at in ((3, 12, 30) if long else (25,))]
    if not long:
        points = [("gather", "skip", 60), ("gather", "twice", 60), ("broadcast", "skip", 4), ("send", "less", 5)]
    for call, action, at in points:
        output = rig.fresh()
        # Longer than elsewhere: on a busy machine a rank that is only slow must not count as stopped before the watch
        # compares what the ranks wait for.
        code, error, trouble = start(rig, output, "parallel.context=2", f"runtime.patience={3 * SECONDS}s", preload=True,
                                     environment={"MPI_FAULT_RANK": 1, "MPI_FAULT_CALLS": call, "MPI_FAULT_AT": at,
                                                  "MPI_FAULT_ACTION": action})
        if not trouble and code != 70:
            trouble = f"exit code {code}: {error[-400:]}"
        elif not trouble and not ("rank 0 (process" in error and "rank 1 (process" in error and "operation" in error):
            trouble = "no histories of both"
        row.point(f"{call} {at} {action}", trouble)
        shutil.rmtree(output, ignore_errors=True)
    return row


def r19(rig, long, Row):
    row = Row("R19", "a replica's weights differ")
    layouts = {"data": ["parallel.zero=0"], "data, ZeRO 1": [], "context": ["parallel.context=2"],
               "tensor": ["parallel.tensor=2"]}
    for name, words in layouts.items() if long else list(layouts.items())[1:4:2]:
        for mistake in ("replica_bit_flipped", "weights_not_gathered") if "data" in name else ("replica_bit_flipped",):
            if mistake == "weights_not_gathered" and "ZeRO" not in name:
                continue
            output = rig.fresh()
            code, error, trouble = start(rig, output, *words, environment={"CARILLON_TEST_BREAK": mistake})
            line = error_line(error)
            if not trouble and (code != 70 or "rank 1 has" not in line or "model/" not in line):
                trouble = f"exit code {code}: {line or error[-300:]}"
            row.point(f"{mistake}, {name}", trouble)
            shutil.rmtree(output, ignore_errors=True)
    return row


def r20(rig, long, Row):
    row = Row("R20", "a slow rank is named within 100 steps")
    for rank in (0, 1) if long else (1,):
        output = rig.fresh()
        code, error, trouble = start(rig, output, "parallel.context=2", "train.max_steps=100", "checkpoint.every_steps=100",
                                     environment={"CARILLON_TEST_HANG": f"slow60@a training step:{rank}"})
        if not trouble and (code != 0 or f"rank {rank} on " not in error):
            trouble = f"exit code {code}: {error[-300:]}"
        row.point(f"rank {rank}", trouble)
        shutil.rmtree(output, ignore_errors=True)
    if long:
        output = rig.fresh()
        _, error, _ = start(rig, output, "parallel.context=2", "train.max_steps=1000", "checkpoint.every_steps=500",
                            environment={})
        row.control = f"{error.count('times as long as the others')} false"
    return row


ROWS = {"R13": r13, "R14": r14, "R15": r15, "R19": r19, "R20": r20}
