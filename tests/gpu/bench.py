"""`carillon bench` on the device: what it measures goes into the report as it is."""

import json

NAME, TITLE, LEAST, MOST = "bench", "what the device reaches", 25, 90


def run(context):
    machine, sizes = context.machine, context.sizes
    profile = context.folder / "profile.json"
    seconds = min(sizes.bench_seconds, 0.6 * context.left())
    done = machine.call("bench", "runtime.device=cuda", f"bench.seconds={seconds:g}",
                        f"bench.longest={sizes.bench_longest}", f"bench.output={profile}",
                        f"bench.folder={context.folder}", "--json", seconds=context.left())
    found = json.loads(done.output)
    context.record.figures.update(profile=found, path=str(profile), not_measured=[
        line for line in done.errors.splitlines() if "not measured" in line])
    context.check("bench", True, describe(found, {**machine.peaks(), **found.get("peak_flops_per_second", {})}))
    context.check("of the device", found.get("device") == "cuda", f"the profile is one of {found.get('device')}")


def best(entries, key):
    return max((entry.get(key, 0) for entry in entries), default=0)


def describe(profile, peaks):
    words = []
    for dtype, entries in profile.get("products", {}).items():
        rate = best(entries, "flops_per_second")
        share = f" ({100 * rate / peaks[dtype]:.0f} % of the peak)" if dtype in peaks else ""
        words.append(f"products {dtype} {rate / 1e12:.3g} TFLOP/s{share}")
    for dtype, entries in profile.get("attention", {}).items():
        words.append(f"attention {dtype} {best(entries, 'forward_flops_per_second') / 1e12:.3g} forward, "
                     f"{best(entries, 'backward_flops_per_second') / 1e12:.3g} backward")
    return "; ".join(words)
