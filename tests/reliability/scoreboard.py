"""The scoreboard of tests/reliability/README.md: injects faults into the built program from outside and checks the
results by exit codes and files only. Prints one line per row: faults injected, faults survived, and the control, a
weakened program or file that must fail (a control that no longer fails means that the row detects nothing).

    scoreboard.py [--long] [ROW …]        CARILLON and FAULTS name the program and the library of fault_calls.cpp

`disks` stands for all rows of this file, `ranks` for those of rank_rows.py.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb
import rank_rows
from rig import PATIENCE, Rig, committed, state_of_run, aftermath, Row, sample, sweep


def r1(rig, long):
    row = Row("R1", "SIGKILL at a call that changes a file")
    for ranks, rank in ((1, 0), (2, 0), (2, 1)):
        sweep(rig, row, ranks, "kill", 10**6 if long else (10, 3)[ranks - 1], (137,), rank=rank)
    # The control: a checkpoint that counts as complete only because its folder exists.
    output = rig.copy()
    newest = output / "checkpoints/step-00000004"
    (newest / "manifest.json").unlink()
    believed = int(os.path.isdir(newest) and state_of_run(output)[0] != 4)
    row.control = f"{believed} of 1 bad"
    return row


def r2(rig, long):
    row = Row("R2", "the same, and what was not synced is lost")
    for ranks in (1, 2) if long else (1,):
        sweep(rig, row, ranks, "lose", 10**6 if long else 10, (137,))
    bad = 0
    points = sample(rig.count(1), 10**6 if long else 6)
    for at in points:
        output = rig.fresh()
        _, error = rig.train(1, output, faults={"under": output, "action": "lose", "at": at, "no_sync": 1}, expect=None)
        newest, complete = state_of_run(output)
        bad += newest < committed(error) or not complete
        shutil.rmtree(output, ignore_errors=True)
    row.control = f"{bad} of {len(points)} bad"
    return row


def r3(rig, long):
    row = Row("R3", "EIO, ENOSPC, EDQUOT, short, EINTR at such a call")
    most = 10**6 if long else 3
    for action in ("eio", "enospc", "edquot"):
        sweep(rig, row, 1, action, most, (0, 73, 74))
    sweep(rig, row, 1, "short", most, (0,), calls="write")
    sweep(rig, row, 1, "eintr", most, (0,), calls="write,sync")
    for action in ("eio", "enospc"):
        for ranks, rank in ((1, 0), (2, 0), (2, 1)):
            some = 10**6 if long else 3 if ranks == 1 else 1
            if ranks == 2:
                sweep(rig, row, 2, action, some, (0, 73, 74), rank=rank)
            sweep(rig, row, ranks, action, some, (0, 73, 74), rank=rank, lasting=True)
    return row


def reads(rig, long):
    row = Row("R3r", "EIO while a run is resumed: passing, lasting")
    for calls in ("open", "read"):
        points = sample(rig.count(1, calls, prepare=rig.copy, under="/checkpoints"), 10**6 if long else 4)
        for at in points:
            for lasting in (False, True):
                output = rig.copy()
                faults = {"under": output / "checkpoints", "calls": calls, "action": "eio", "at": at}
                if lasting:
                    faults["lasting"] = 1
                code, error = rig.train(1, output, "train.max_steps=5", faults=faults, expect=None)
                trouble = None
                if code is None or code not in ((0, 74) if lasting or calls == "open" else (0,)):
                    trouble = f"exit code {code}: {error[-200:]}"
                elif list(output.glob("checkpoints/.bad-*")) or "passing over" in error:
                    trouble = "taken for damage"
                row.point(f"{calls} {at}{' lasting' if lasting else ''}", trouble)
                shutil.rmtree(output)
    return row


def r4(rig, long):
    row = Row("R4", "a limit on the size of files")
    for blocks in (1, 4, 8, 16, 24) if not long else range(1, 40):
        output = rig.fresh()
        done = subprocess.run(["bash", "-c", f'ulimit -f {blocks}; exec "$@"', "bash", *bb.command(
            1, "train", rig.config, f"output={output}")], capture_output=True, text=True, timeout=PATIENCE)
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        row.point(f"{blocks} KiB", aftermath(rig, 1, output, done.stderr, (0, 73, 74), code))
        shutil.rmtree(output, ignore_errors=True)
    return row


def flipped(path, at, bit):
    bytes_ = bytearray(path.read_bytes())
    bytes_[at] ^= 1 << bit
    path.write_bytes(bytes_)


def r5(rig, long):
    row = Row("R5", "a bit of manifest.json or state.h5 flipped, or cut off")
    chance = random.Random(7)
    silent = 0
    tries = 4000 if long else 12
    for i in range(tries):
        output = rig.copy()
        newest = output / "checkpoints/step-00000004"
        path = newest / ("manifest.json", "state.h5")[i % 2]
        at, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
        if i % 6 == 5:
            os.truncate(path, at)
        else:
            flipped(path, at, bit)
        code, error = rig.train(1, output, "train.max_steps=4", expect=None)
        same = code == 0 and bb.raw_fields(output) == rig.reference[1]
        row.point(f"{path.name} {at}", None if same else f"exit code {code}: {error[-200:]}")
        silent += "passing over" not in error
        shutil.rmtree(output)
    row.control = f"{tries - silent} of {tries} seen"
    return row


def r6(rig, long):
    row = Row("R6", "incomplete and strange folders")

    def state(output):
        return output / "checkpoints/step-00000004/state.h5"

    def manifest(output):
        return output / "checkpoints/step-00000004/manifest.json"

    def newest(output):
        return output / "checkpoints/step-00000004"

    def replace(path, make):
        path.unlink()
        make(path)

    def linked(output):
        newest(output).rename(output / "elsewhere")
        newest(output).symlink_to(output / "elsewhere")

    def from_other_step(output):
        shutil.copy(output / "checkpoints/step-00000002/state.h5", state(output))

    def twice(output):
        shutil.copytree(newest(output), output / "checkpoints/step-4")

    def emptied(output):
        shutil.rmtree(newest(output))
        newest(output).mkdir()

    def a_file(output):
        shutil.rmtree(newest(output))
        newest(output).write_text("")

    falls_back = {
        "no state.h5": lambda o: state(o).unlink(),
        "no manifest.json": lambda o: manifest(o).unlink(),
        "empty folder": emptied,
        "a file in its place": a_file,
        "a link in its place": linked,
        "state.h5 empty": lambda o: os.truncate(state(o), 0),
        "state.h5 is a FIFO": lambda o: replace(state(o), os.mkfifo),
        "state.h5 is a folder": lambda o: replace(state(o), os.mkdir),
        "state.h5 is a device": lambda o: replace(state(o), lambda p: p.symlink_to("/dev/zero")),
        "state.h5 is a link": lambda o: (state(o).rename(o / "s"), state(o).symlink_to(o / "s")),
        "manifest.json is a FIFO": lambda o: replace(manifest(o), os.mkfifo),
        "manifest.json is a folder": lambda o: replace(manifest(o), os.mkdir),
        "state.h5 of another step": from_other_step,
    }
    stays = {
        "latest is a lie": lambda o: (o / "checkpoints/latest").write_text("step-00000099\n"),
        "latest is a FIFO": lambda o: replace(o / "checkpoints/latest", os.mkfifo),
        "the step twice": twice,
        "leftovers": lambda o: ((o / "checkpoints/.tmp-step-00000009").mkdir(),
                                (o / "checkpoints/.del-step-00000001").mkdir(),
                                (o / "checkpoints/latest.tmp-abc").write_text("x"), (o / "config.yaml.tmp-x").write_text("")),
        "a stranger's folder": lambda o: (o / "checkpoints/step-x").mkdir(),
    }
    for name, harm in {**falls_back, **stays}.items():
        output = rig.copy()
        harm(output)
        if name in stays:  # removes a checkpoint, so the run has one to save
            shutil.rmtree(newest(output))
        code, error = rig.train(1, output, "checkpoint.every_steps=1", expect=None)
        trouble = None
        if code != 0 or bb.raw_fields(output) != rig.reference[1]:
            trouble = f"exit code {code}: {error[-300:]}"
        elif (name in falls_back) != ("passing over" in error):
            trouble = "said nothing" if name in falls_back else error[-300:]
        row.point(name, trouble)
        shutil.rmtree(output)
    # No checkpoint is complete: the run must not start from scratch.
    output = rig.copy()
    for folder in (output / "checkpoints").glob("step-*"):
        (folder / "state.h5").unlink()
    code, _ = rig.train(1, output, expect=None)
    row.point("none whole", None if code == 65 else f"exit code {code}")
    return row


def caches(rig, long):
    row = Row("RC", "a bit of the token cache or of a token file flipped")
    chance = random.Random(3)
    tokens = rig.folder / "tokens.h5"
    bb.run(1, "tokenize", rig.folder / "train.jsonl", f"output={tokens}", "vocab_size=22")
    whole = tokens.read_bytes()
    data = f"data.train=[{{path: {tokens}}}]"
    seen = 0
    tries = 1000 if long else 6
    for kind in ("cache", "file"):
        for _ in range(tries):
            shutil.rmtree(os.environ["CARILLON_CACHE"], ignore_errors=True)
            output = rig.fresh()
            if kind == "cache":
                rig.train(1, output, "train.max_steps=1")
                path = next(pathlib.Path(os.environ["CARILLON_CACHE"]).glob("*.tokens"))
                shutil.rmtree(output)
                flipped(path, chance.randrange(path.stat().st_size), chance.randrange(8))
                code, error = rig.train(1, output, expect=None)
            else:
                flipped(tokens, chance.randrange(len(whole)), chance.randrange(8))
                code, error = rig.train(1, output, data, expect=None)
                tokens.write_bytes(whole)
            fine = code == 65 and "carillon: error" in error or code == 0 and bb.raw_fields(output) == rig.reference[1]
            seen += code == 65 or "made again" in error
            row.point(kind, None if fine else f"exit code {code}: {error[-200:]}")
            shutil.rmtree(output, ignore_errors=True)
    row.control = f"{seen} of {2 * tries} seen"
    return row


def r11(rig, long):
    row = Row("R11", "killed at random moments, resumed on other ranks: same data")
    chance = random.Random(11)
    for _ in range(40 if long else 3):
        output = rig.fresh()
        process = bb.start(1, "train", rig.config, f"output={output}", "checkpoint.every_steps=1")
        time.sleep(chance.random() * 0.4)
        process.kill()
        process.communicate()
        code, error = rig.train(1, output, expect=None)
        row.point("kill", None if code == 0 and bb.raw_fields(output) == rig.reference[1] else f"{code}: {error[-200:]}")
    return row


def r12(rig, long):
    row = Row("R12", "R1 to R3 where checkpoints are written beside steps")
    more = ["checkpoint.async=true", "checkpoint.every_steps=1"]
    for ranks, rank in ((1, 0), (2, 0), (2, 1)):
        some = 10**6 if long else 6 if ranks == 1 else 2
        for action, calm in (("kill", (137,)), ("lose", (137,)), ("eio", (0, 73, 74)), ("enospc", (0, 73, 74))):
            sweep(rig, row, ranks, action, some, calm, rank=rank, more=more)
    bad = 0
    points = sample(rig.count(1, more=more), 10**6 if long else 6)
    for at in points:
        output = rig.fresh()
        faults = {"under": output, "action": "lose", "at": at, "no_sync": 1}
        _, error = rig.train(1, output, *more, faults=faults, expect=None)
        newest, complete = state_of_run(output)
        bad += newest < committed(error) or not complete
        shutil.rmtree(output, ignore_errors=True)
    row.control = f"{bad} of {len(points)} bad"
    return row


SOAK = float(os.environ.get("SOAK_SECONDS", 1800))


def soak(rig, row, chance):
    """R27 for a given time: starts a run again and again, each time with a fault at a random call or a SIGKILL at a
    random moment, every 20 s on average. Committed steps are never lost, and the final results equal those of an
    undisturbed run."""
    words = ["train", rig.config, "train.lr_scheduler=constant", "checkpoint.every_steps=1"]
    output = rig.fresh()
    until, newest, start = time.monotonic() + SOAK, 0, 0
    while time.monotonic() < until and len(row.troubles) <= 5:
        faults = {"under": output, "at": chance.randrange(1, 20000),
                  "action": chance.choice(("kill", "lose", "eio", "enospc", "short", "eintr"))}
        limit = chance.uniform(5, 35)
        code, error = rig.start(1, [*words, f"output={output}", "train.max_steps=10000000"], faults, limit)
        before, (newest, complete) = newest, state_of_run(output)
        trouble = None
        if code not in (None, 0, 73, 74, 137):
            trouble = f"exit code {code}: {error[-200:]}"
        elif newest < max(before, committed(error)):
            trouble = f"step {max(before, committed(error))} was committed, step {newest} is there"
        elif code is None and newest == before and limit > 20:
            trouble = f"no step in {limit:.0f} s"
        elif not complete:
            trouble = f"metrics.jsonl lacks records up to step {newest}"
        elif len(list((output / "checkpoints").glob("step-*"))) > 6:
            trouble = "checkpoints pile up"
        row.point(f"start {start} with {faults}, {limit:.0f} s", trouble)
        start += 1
    end, straight = f"train.max_steps={newest + 3}", rig.fresh()
    for folder, every in ((output, 1), (straight, 10**6)):
        code, error = rig.start(1, [*words[:3], f"checkpoint.every_steps={every}", f"output={folder}", end], limit=3600)
        if code != 0:
            row.troubles.append(f"exit code {code} at the end: {error[-200:]}")
    if bb.raw_fields(output) != bb.raw_fields(straight):
        row.troubles.append("it ended as another run")
    if list((output / "checkpoints").glob(".tmp-*")):
        row.troubles.append("temporaries are left")
    if row.troubles:
        row.survived = min(row.survived, row.injected - 1)
    row.control = f"{newest} steps"
    return row


def r27(rig, long):
    row = Row("R27", "soak: a fault in each start, until the run is done")
    chance = random.Random(27)
    if long:
        return soak(rig, row, chance)
    straight = rig.fresh()
    steps = ["train.max_steps=12", "checkpoint.every_steps=1"]
    rig.train(1, straight, *steps)
    output = rig.fresh()
    for start in range(7):
        faults = None
        if start < 6:
            faults = {"under": output, "at": chance.randrange(1, 90),
                      "action": chance.choice(("kill", "lose", "eio", "enospc", "short", "eintr"))}
        code, error = rig.train(1, output, *steps, faults=faults, expect=None)
        row.point(f"start {start} with {faults}", None if code in (0, 73, 74, 137) else f"exit code {code}: {error[-200:]}")
        if faults is None or code is None or len(row.troubles) > 5:
            break
    if bb.raw_fields(output) != bb.raw_fields(straight):
        row.troubles.append("it ended as another run")
        row.survived = 0
    return row


ROWS = {"R1": r1, "R2": r2, "R3": r3, "R3r": reads, "R4": r4, "R5": r5, "R6": r6, "RC": caches, "R11": r11, "R12": r12, "R27": r27}
ELSEWHERE = {
    "R7": "ctest data_checkpoint, launch_resume", "R9": "ctest data_tensor_io, data_checkpoint",
    "R10": "ctest data_foreign_reader", "R16": "ctest launch_resume", "R24": "ctest parallel_ring_attention, launch_verify",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("rows", nargs="*", default=[])
    chosen = parser.parse_args()
    groups = {"disks": ROWS, "ranks": rank_rows.ROWS}
    wanted = {row for name in chosen.rows for row in groups.get(name, [name])}
    print(f"{'row':4} {'fault':58} {'points':>6} {'good':>6}   {'control':14}  time")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(folder)
        rows = {**ROWS, **{name: lambda rig, long, row=row: row(rig, long, Row) for name, row in rank_rows.ROWS.items()}}
        for name, function in rows.items():
            if wanted and name not in wanted:
                continue
            row = function(rig, chosen.long)
            print(row.line(), flush=True)
            for trouble in row.troubles[:20]:
                print(f"     {trouble}")
            good = good and row.good()
    for name, place in ELSEWHERE.items():
        if not chosen.rows:
            print(f"{name:4} {place}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
