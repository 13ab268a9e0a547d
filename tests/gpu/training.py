"""Trains on the device and on the CPU: the losses agree within the precision of the type, and a second run on the
device repeats the first bit for bit."""

import runs

NAME, TITLE, LEAST, MOST = "training", "a run on the device against the CPU", 20, 100
# Bounds of the relative difference between the losses of the few steps in these types. The two devices sum in different
# orders, which changes a sum by 1e-16 and 6e-8. AdamW amplifies this because it divides gradients by their own size: a
# gradient that is only rounding error moves its weight by the whole learning rate, in either direction.
BOUNDS = {"float64": 1e-9, "float32": 1e-4}


def run(context):
    sizes = context.sizes
    data = context.folder / "tokens.jsonl"
    runs.write_tokens(data, sizes.model["vocab_size"], sizes.length, sizes.sequences * sizes.steps)
    config = runs.write_config(context.folder / "training.yaml", sizes.model, sizes.length, sizes.sequences, data,
                               learning_rate=sizes.learning_rate, warmup_steps=5)

    def pair(dtype, steps):
        keys = [f"runtime.dtype={dtype}", f"train.max_steps={steps}"]
        result = {device: runs.train(context, config, context.folder / f"{device}-{dtype}", *keys, device=device)
                  for device in ("cuda", "cpu")}
        curves = {device: [record["loss"] for record in result[device]] for device in result}
        context.record.figures[dtype] = {
            "device": curves["cuda"], "cpu": curves["cpu"],
            "device_step_seconds": middle([record["seconds"] for record in result["cuda"]]),
            "cpu_step_seconds": middle([record["seconds"] for record in result["cpu"]])}
        return result["cuda"], worst(curves["cuda"], curves["cpu"])

    first, difference = pair("bfloat16", sizes.steps)
    context.record.figures["loss_bound"] = context.loss_bound
    context.check("bfloat16", len(first) == sizes.steps and difference <= context.loss_bound,
                  f"{len(first)} steps, losses {difference:.2e} apart at most, relatively; "
                  f"{context.loss_bound:g} allowed")
    begin, end = first[0]["loss"], first[-1]["loss"]
    context.check("it learns", end < 0.9 * begin, f"loss {begin:.3f} to {end:.3f}: the curves are worth comparing")
    for dtype, bound in BOUNDS.items():
        few, difference = pair(dtype, sizes.few)
        context.check(dtype, len(few) == sizes.few and difference <= bound,
                      f"{len(few)} steps, losses {difference:.2e} apart at most, relatively; {bound:g} allowed")
    again = runs.train(context, config, context.folder / "again", f"train.max_steps={sizes.few}")
    same = [bits(record) for record in again] == [bits(record) for record in first[: sizes.few]]
    context.check("repetition", same and len(again) == sizes.few, f"{sizes.few} steps of bfloat16 once more: "
                  f"{'the same bits of loss and norm' if same else 'OTHER bits of loss or norm'}")


def bits(record):
    return record["loss"], record["grad_norm"]


def worst(got, expected):
    """The largest relative difference; infinite if a loss is missing on either side."""
    if len(got) != len(expected) or None in got or None in expected:
        return float("inf")
    return max((abs(a - b) / abs(b) for a, b in zip(got, expected)), default=float("inf"))


def middle(values):
    values = sorted(values[1:] or values)
    return values[len(values) // 2] if values else None
