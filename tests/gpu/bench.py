"""Runs `carillon bench` on the device, once per attention engine, then PyTorch at the same shapes, so the report can
show every rate relative to PyTorch's. The rates of both engines go into one profile, which `longest` uses to plan."""

import json

import runs
from children import Failed, run_child

NAME, TITLE, LEAST, MOST = "bench", "what the device reaches, beside PyTorch", 25, 170
ENGINES = ["native", "cudnn"]
SHARES = {"native": 0.3, "cudnn": 0.2, "peer": 0.3, "step": 0.2}  # of the part's time


def run(context):
    profile, missing = None, []
    for engine in ENGINES:
        found = measure(context, engine, missing)
        if found is None:
            continue
        if profile is None:
            profile = found
        else:
            for dtype, entries in found.get("attention", {}).items():
                profile["attention"].setdefault(dtype, []).extend(entries)
    path = context.folder / "profile.json"
    path.write_text(json.dumps(profile))
    machine, figures = context.machine, context.record.figures
    figures.update(profile=profile, path=str(path), not_measured=missing)
    context.check("bench", True, describe(profile, {**machine.peaks(), **profile.get("peak_flops_per_second", {})}))
    context.check("of the device", profile.get("device") == "cuda", f"the profile is one of {profile.get('device')}")
    own = own_step(context)
    figures["step"] = own
    peer = figures["peer"] = ask_peer(context, profile)
    figures["ratios"] = ratios(profile, own, peer)
    if peer is not None:
        context.check("beside PyTorch", bool(figures["ratios"]), "; ".join(
            f"{name} {ratio:.2f}" for name, ratio in figures["ratios"].items()))


def measure(context, engine, missing):
    """Measures a profile with this engine's attention. Returns None if the device or the build does not support
    cuDNN."""
    machine, sizes = context.machine, context.sizes
    path = context.folder / f"profile-{engine}.json"
    seconds = min(sizes.bench_seconds, SHARES[engine] * MOST, SHARES[engine] / 0.5 * context.left())
    types = [] if engine == "native" else ["bench.dtypes=[bfloat16]"]
    try:
        done = machine.call("bench", "runtime.device=cuda", f"runtime.attention={engine}", f"bench.seconds={seconds:g}",
                            f"bench.longest={sizes.bench_longest}", f"bench.output={path}",
                            f"bench.folder={context.folder}", "--json", *types, seconds=context.left())
    except Failed as error:
        if engine == "native":
            raise
        # The build lacks cuDNN, or the device is too old for it. This is reported, and is no failure of Carillon's
        # kernels.
        context.skip(f"bench {engine}", str(error)[:300])
        context.keep_log(error.log)
        return None
    missing += [line for line in done.errors.splitlines() if "not measured" in line]
    return json.loads(done.output)


def own_step(context):
    """Runs steps of the geometry that the peer trains too; returns the median."""
    sizes = context.sizes
    data = context.folder / "bench-step.jsonl"
    runs.write_tokens(data, sizes.peer_model["vocab_size"], sizes.peer_step, 4)
    config = runs.write_config(context.folder / "bench-step.yaml", sizes.peer_model, sizes.peer_step, 1, data,
                               max_steps=1000, learning_rate=1e-5, recompute="full")
    output = context.folder / "bench-step"
    runs.train_until(context, config, output, max(0.5 * context.left(), 5), lambda: len(runs.records(output)) >= 4)
    steps = [record["seconds"] for record in runs.records(output)][1:]
    if not steps:
        return None
    seconds = sorted(steps)[len(steps) // 2]
    return {"seconds": seconds, "tokens": sizes.peer_step, "tokens_per_second": sizes.peer_step / seconds}


def ask_peer(context, profile):
    machine, sizes = context.machine, context.sizes
    python = machine.python_with_torch()
    if python is None:
        context.skip("PyTorch", "no Python here has it")
        return None
    shapes = sorted({(e["rows"], e["inner"], e["columns"]) for e in profile["products"].get("bfloat16", [])},
                    key=lambda shape: shape[0] * shape[1] * shape[2])[-8:]
    wanted = {"device": "cpu" if machine.rehearsal else "cuda", "seconds": max(0.8 * context.left(), 5),
              "lengths": sizes.peer_lengths, "heads": 32 if not machine.rehearsal else 2,
              "kv_heads": 8 if not machine.rehearsal else 1, "head_dim": 128 if not machine.rehearsal else 16,
              "products": shapes, "model": sizes.peer_model, "step_length": sizes.peer_step}
    done = run_child([python, machine.here / "peer.py", json.dumps(wanted)], machine.plain_environment(), context.left())
    if done.code != 0 or not done.output.strip():
        context.keep_log(done.text())
        context.skip("PyTorch", f"{python}: {done.stopped or (done.errors.strip().splitlines() or ['no output'])[-1][:200]}")
        return None
    return json.loads(done.output.strip().splitlines()[-1])


def ratios(profile, own, peer):
    """Carillon's rates divided by PyTorch's: attention at the nearest length the peer measured, products at the same
    shapes, and a step."""
    found = {}
    if peer is None:
        return found
    for engine in ENGINES:
        mine = [e for e in profile["attention"].get("bfloat16", []) if e.get("engine", "native") == engine]
        for theirs in peer["attention"]:
            near = [e for e in mine if e["length"] == theirs["length"] and e["head_dim"] == theirs["head_dim"]]
            for way in ("forward", "backward"):
                key = f"{way}_flops_per_second"
                if near and theirs[key] > 0:
                    found[f"attention {engine} by {theirs['engine']}, {theirs['length']} tokens, {way}"] = (
                        near[0][key] / theirs[key])
    mine = {(e["rows"], e["inner"], e["columns"]): e["flops_per_second"] for e in profile["products"].get("bfloat16", [])}
    for theirs in peer["products"]:
        shape = theirs["rows"], theirs["inner"], theirs["columns"]
        found["product {} × {} × {}".format(*shape)] = mine[shape] / theirs["flops_per_second"]
    if own and peer.get("step"):
        found[f"step, {own['tokens']} tokens"] = peer["step"]["seconds"] / own["seconds"]
    return found


def best(entries, key):
    return max((entry.get(key, 0) for entry in entries), default=0)


def describe(profile, peaks):
    words = []
    for dtype, entries in profile.get("products", {}).items():
        rate = best(entries, "flops_per_second")
        share = f" ({100 * rate / peaks[dtype]:.0f} % of the peak)" if dtype in peaks else ""
        words.append(f"products {dtype} {rate / 1e12:.3g} TFLOP/s{share}")
    for dtype, entries in profile.get("attention", {}).items():
        for engine in sorted({entry.get("engine", "") for entry in entries}):
            of_engine = [entry for entry in entries if entry.get("engine", "") == engine]
            words.append(f"attention {dtype} {engine} {best(of_engine, 'forward_flops_per_second') / 1e12:.3g} forward, "
                         f"{best(of_engine, 'backward_flops_per_second') / 1e12:.3g} backward")
    return "; ".join(words)
