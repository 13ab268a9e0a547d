"""Continues a checkpoint of one kind of device on the other, in float64, and compares the losses with
those of an uninterrupted run."""

import shutil

import runs
import training

NAME, TITLE, LEAST, MOST = "resume", "checkpoints from the CPU to the device and back", 10, 40
BOUND = training.BOUNDS["float64"]


def run(context):
    sizes = context.sizes
    data = context.folder / "resume.jsonl"
    runs.write_tokens(data, sizes.model["vocab_size"], sizes.length, sizes.sequences * sizes.few)
    config = runs.write_config(context.folder / "resume.yaml", sizes.model, sizes.length, sizes.sequences, data,
                               learning_rate=sizes.learning_rate)
    half, whole = sizes.few // 2, sizes.few
    losses = {}
    for start, end in (("cpu", "cpu"), ("cpu", "cuda"), ("cuda", "cpu")):
        folder = context.folder / f"{start}-{end}"
        if start == end:
            steps = runs.train(context, config, folder, "runtime.dtype=float64", f"train.max_steps={whole}",
                               device=start)
        else:
            for device, count in ((start, half), (end, whole)):
                steps = runs.train(context, config, folder, "runtime.dtype=float64", f"train.max_steps={count}",
                                   device=device)
        losses[start, end] = [step["loss"] for step in steps]
        context.record.figures[f"{start} to {end}"] = losses[start, end]
        resumed = start == end or "resuming from" in (folder / "log.txt").read_text()
        difference = training.worst(losses[start, end], losses["cpu", "cpu"])
        if start != end:
            context.check(f"{start} to {end}", resumed and difference <= BOUND,
                          f"{whole} steps, {half} of them before the checkpoint: losses {difference:.2e} apart at most, "
                          f"{BOUND:g} allowed{'' if resumed else '; NOT resumed'}")
        shutil.rmtree(folder)
