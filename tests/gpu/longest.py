"""The longest context that fits this device, by geometry: runs a step of the length that the plan predicts and compares
both."""

import dataclasses
import json
import time

import machine as machines
import runs
from children import Failed, run_child

NAME, TITLE, LEAST, MOST = "longest", "a step at the longest context that fits", 40, 200
STEPS = 1  # this step also selects cuBLASLt's algorithms; a second step would cost as much again
LEAST_ALLOWANCE = 1 << 30  # bytes for context and libraries, since the use that bench measured can vary between starts


@dataclasses.dataclass
class Choice:
    """The keys of the run that allow the longest sequence, and that length, limited by memory alone."""
    keys: list
    length: int


def run(context):
    context.record.figures["geometries"] = figures = []
    pace = 1.0  # measured over planned seconds of the previous geometry
    for index, geometry in enumerate(context.sizes.geometries):
        share = time.monotonic() + context.left() / (len(context.sizes.geometries) - index)
        if context.left() < 15 and not context.machine.rehearsal:
            context.skip(geometry.name, "no time left")
            continue
        figure = {"asked": geometry.name, "device_bytes": context.machine.memory_bytes}
        figures.append(figure)
        try:
            Geometry(context, geometry, figure, share, pace).run()
        except Failed as error:
            context.keep_log(error.log)
            context.check(geometry.name, False, str(error))
        if "step_seconds" in figure:
            pace = max(1.0, figure["step_seconds"] / figure["planned_seconds"])


class Geometry:
    def __init__(self, context, asked, figure, deadline, pace):
        self.context, self.asked, self.figure, self.deadline, self.pace = context, asked, figure, deadline, pace
        self.machine, self.sizes = context.machine, context.sizes
        self.config = self.geometry = None

    def left(self):
        return self.deadline - time.monotonic()

    # ---- the plan

    def write(self, geometry, length):
        name = geometry.name.replace(" ", "-")
        data = self.context.folder / f"{name}-{length}.jsonl"
        if not data.exists():
            runs.write_tokens(data, geometry.model["vocab_size"], length, STEPS)
        return runs.write_config(self.context.folder / f"{name}.yaml", geometry.model, length, 1, data,
                                 max_steps=1000, mlp_tile=self.sizes.mlp_tile, learning_rate=1e-5)

    def measured_profile(self):
        """The profile that bench has just written, or None."""
        return self.context.earlier.get("bench", {}).get("path")

    def plan(self, keys, profile=None):
        """The JSON object of the plan, or None if the layout is impossible."""
        profile = profile or self.measured_profile() or self.machine.profile()
        command = [self.machine.carillon, "plan", self.config, "--json", "runtime.device=cuda", "plan.ranks=1",
                   f"plan.profile={profile}", f"plan.memory={self.machine.memory_bytes}",
                   f"plan.host_memory={machines.host_memory()}", *keys]
        done = run_child(command, self.machine.with_values(device=False, values={"OMP_NUM_THREADS": "1"}), 60)
        if done.code not in (0, 64) or not done.output:
            raise Failed(f"carillon plan: exit code {done.code}: {done.errors.strip()[-300:]}", done.text())
        plan = json.loads(done.output)
        return plan if plan["memory"] is not None else None

    def choose(self):
        """The best combination of recompute and offload; None if no sequence of this geometry fits."""
        best = None
        for recompute in ("selective", "full"):
            for offload in ("none", "checkpoints", "optimizer", "all"):
                keys = [f"train.recompute={recompute}", f"train.offload={offload}"]
                plan = self.plan(keys)
                length = plan["memory"]["longest_sequence"] if plan else 0
                if best is None or length > 1.02 * best.length:  # earlier combinations are faster
                    best = Choice(keys, length)
        best.length = best.length // self.sizes.grain * self.sizes.grain
        return best if best.length > 0 else None

    def affordable(self, choice):
        """The longest length within memory for which the plan predicts a short enough step."""
        longest = min(choice.length, self.sizes.length_cap or choice.length)
        grain = self.sizes.grain
        low, high = 1, max(longest // grain, 1)
        while low < high:
            middle = (low + high + 1) // 2
            seconds = self.plan([*choice.keys, f"data.sequence_length={middle * grain}"])["time"]["seconds"]
            low, high = (middle, high) if self.pace * seconds <= self.sizes.longest_step else (low, middle - 1)
        return low * grain

    # ---- the run

    def run(self):
        geometry, choice, passed_over = self.asked, None, []
        while geometry is not None:
            self.config = self.write(geometry, self.sizes.grain)
            choice = self.choose()
            if choice is not None:
                break
            passed_over.append(geometry.name)
            geometry = geometry.alternative
        if choice is None:
            return self.context.check(self.asked.name, False, "no room for it by the plan, nor for what stands in for it")
        name = self.asked.name
        if passed_over:
            name = f"{self.asked.name}, {geometry.name} in its place"
            self.figure["does_not_fit"] = passed_over
        self.geometry = geometry
        length = self.affordable(choice)
        self.figure.update(geometry=geometry.name, keys=choice.keys, longest_by_memory=choice.length, length=length,
                           longest_step_seconds=self.sizes.longest_step)
        self.context.say(f"{name}: {choice.length} tokens fit with {' '.join(choice.keys)}; {length} tokens are run")
        self.step(name, choice, length)
        if length < choice.length:
            self.start_only(name, choice)
        return None

    def patience(self):
        return min(self.left(), self.context.left())

    def step(self, name, choice, length):
        """Runs a step of this length. Checks its memory against the plan, and reports its time and the planned time."""
        self.config = self.write(self.geometry, length)
        keys = [*choice.keys, f"data.sequence_length={length}"]
        plan = self.plan(keys)
        output = self.context.folder / f"{self.asked.name}-step".replace(" ", "-")
        done = runs.train_until(self.context, self.config, output, max(self.patience(), 5),
                                lambda: len(runs.records(output)) >= STEPS, *keys)
        steps = runs.records(output)
        if not steps:
            # Too slow is no failure, but gives no result either.
            return self.context.skip(f"{name}, {length} tokens", f"no step yet: {done.stopped}; the plan says "
                                     f"{plan['time']['seconds']:.1f} s a step")
        measured = steps[-1]["device_memory_bytes"]
        memory, spent = plan["memory"], plan["time"]
        self.figure.update(planned_bytes=memory["peak_bytes"], libraries_bytes=memory["by_role"]["libraries"],
                           by_role=memory["by_role"], measured_bytes=measured, host_bytes=memory["host_bytes"],
                           step_seconds=steps[-1]["seconds"], planned_seconds=spent["seconds"],
                           planned_terms=spent["terms"], steps=len(steps), loss=steps[-1]["loss"],
                           seconds_before_first_step=done.seconds - sum(step["seconds"] for step in steps))
        self.figure["planned_by"] = "what bench measured" if self.measured_profile() else "the built-in profile"
        if self.measured_profile():
            own = self.plan(keys, self.machine.profile())
            self.figure["planned_seconds_built_in"] = own["time"]["seconds"] if own and own["time"] else None
        self.context.check(f"{name}, {length} tokens", steps[-1]["loss"] is not None,
                           f"a step took {steps[-1]['seconds']:.2f} s, planned {spent['seconds']:.2f} s")
        libraries = memory["by_role"]["libraries"]
        allowance = libraries if self.machine.rehearsal else max(libraries, LEAST_ALLOWANCE)
        good, text = judge_memory(memory["peak_bytes"] - libraries + allowance, allowance, measured)
        return self.context.check(f"{name}, memory", good, text)

    def start_only(self, name, choice):
        """Starts the program at the longest length by memory, where a step may take an hour, and stops it. The program
        allocates all its memory when it starts, so this shows that the length fits."""
        name = f"{name}, {choice.length} tokens"
        patience = self.start_seconds()
        if self.patience() < patience:
            return self.context.skip(name, f"{self.patience():.0f} s are left, a start takes {patience:.0f} s")
        self.config = self.write(self.geometry, choice.length)
        output = self.context.folder / f"{self.asked.name}-start".replace(" ", "-")
        log, seen, used = output / "log.txt", [], []

        def enough():
            # The run logs its description once its memory is allocated; three seconds later the first kernels are
            # running.
            if not seen and not (log.exists() and "MiB per rank" in log.read_text()):
                return False
            seen.append(time.monotonic())
            used.append(self.machine.used_memory() or 0)
            return seen[-1] - seen[0] > 3
        keys = [*choice.keys, f"data.sequence_length={choice.length}"]
        done = runs.train_until(self.context, self.config, output, patience, enough, *keys)
        self.figure.update(started_at=choice.length, started_used_bytes=max(used, default=0) or None)
        reading = f"; nvidia-smi: {max(used) / 2**30:.2f} GiB of the device" if max(used, default=0) else ""
        return self.context.check(name, bool(seen), f"has all its memory and runs{reading}" if seen else
                                  f"not begun after {done.seconds:.0f} s")

    def start_seconds(self):
        """Expected seconds of a start (initialising weights, pinning host memory), from the previous start, or else
        from the default in `sizes`."""
        return 5 + 1.5 * self.figure.get("seconds_before_first_step", self.sizes.start_seconds)


def judge_memory(planned, libraries, measured):
    """Checks that measured memory is at least the planned allocations, and at most those plus the planned allowance for
    context and libraries. Returns (whether it holds, text)."""
    low = planned - libraries
    text = (f"{measured / 2**30:.3f} GiB of the device measured, planned {low / 2**30:.3f} GiB and up to "
            f"{libraries / 2**30:.2f} GiB of libraries")
    return low <= measured <= planned, text
