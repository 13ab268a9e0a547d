"""Writes the page from the JSON alone: the results, then figures as bars and curves."""

import html
import json

import charts

STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:62em;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0}
td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}
.passed{color:#2d6a4f}.failed{color:#b00020;font-weight:bold}.skipped{color:#8a6d00}
svg{display:block;margin:.6em 0;font:12px system-ui,sans-serif}.grid{stroke:#ddd}.peak{stroke:#222;stroke-dasharray:3 3}
pre{background:#f5f5f5;padding:.7em;overflow:auto;font-size:12px}"""
TERA, GIGA, GIB = 1e12, 1e9, 1 << 30
LINKS = [("device memory", "memory_bytes_per_second"), ("host to device", "to_device_bytes_per_second"),
         ("device to host", "to_host_bytes_per_second")]


def safe(value):
    return html.escape(str(value))


def table(header, rows):
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def status(word):
    return f'<span class="{word}">{word}</span>'


def page(result):
    machine = result["machine"]
    title = f"Carillon on {machine['device'] or 'no device'}"
    parts = [f"<h1>{safe(title)}</h1>"]
    if result["rehearsal"]:
        parts.append("<p><b>A rehearsal</b>: the CUDA library is emulated on the CPU, with stand-ins for NVIDIA's "
                     "tools. Times and rates say nothing of a GPU.</p>")
    parts.append(f"<p>{status(result['status'])}; {safe(result['started'])}, {result['seconds']:.0f} s of "
                 f"{result['budget']:.0f}; commit {safe(result['commit'])}; {machine['devices']} × "
                 f"{safe(machine['device'])}, compute capability {safe(machine['capability'])}, "
                 f"{machine['memory_bytes'] / GIB:.1f} GiB; {safe(machine['processor'])}, {machine['cores']} cores, "
                 f"{machine['host_memory_bytes'] / GIB:.0f} GiB</p>")
    parts.append(table(["part", "", "seconds", "why"], [
        [f'<a href="#{part["name"]}">{safe(part["title"])}</a>', status(part["status"]), f"{part['seconds']:.1f}",
         safe(part["reason"])] for part in result["parts"]]))
    for part in result["parts"]:
        parts.append(f'<h2 id="{part["name"]}">{safe(part["title"])}</h2>')
        parts.append(FIGURES.get(part["name"], lambda figures, machine: "")(part["figures"], machine))
        if part["checks"]:
            rows = [[safe(check["name"]), status(check["status"]), safe(check["text"])] for check in part["checks"]]
            parts.append(table(["check", "", "what"], rows))
        elif part["reason"]:
            parts.append(f"<p>{status(part['status'])}: {safe(part['reason'])}</p>")
        if part["log"]:
            parts.append(f"<pre>{safe(part['log'])}</pre>")
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{safe(title)}</title><style>{STYLE}</style>'
            f'{"".join(parts)}</html>\n')


def facts(figures, _):
    devices = "".join(table(["", ""], [[safe(key), safe(value)] for key, value in device.items()])
                      for device in figures.get("nvidia_smi", []))
    topology = figures.get("topology", "").strip()
    return devices + (f"<pre>{safe(topology)}</pre>" if topology else "")


def training(figures, _):
    parts = []
    for dtype in ("bfloat16", "float32", "float64"):
        if dtype in figures:
            found = figures[dtype]
            parts.append(f"<h3>{dtype}</h3>")
            parts.append(charts.curves([("device", found["device"], 0), ("CPU", found["cpu"], 1)], "step", "loss"))
            parts.append(f"<p>{1000 * found['device_step_seconds']:.1f} ms a step on the device, "
                         f"{1000 * found['cpu_step_seconds']:.1f} on the CPU.</p>")
    return "".join(parts)


def bench(figures, machine):
    profile, parts = figures.get("profile", {}), []
    if not profile:
        return ""
    peaks = {**machine["peaks"], **profile.get("peak_flops_per_second", {})}
    for dtype, entries in profile.get("products", {}).items():
        peak = peaks.get(dtype)
        rows = [(f"{e['rows']} × {e['inner']} × {e['columns']}", e["flops_per_second"] / TERA,
                 share(e["flops_per_second"], peak), 0) for e in entries]
        parts.append(rates(f"Products, {dtype}", rows, peak))
    for dtype, entries in profile.get("attention", {}).items():
        peak = peaks.get(dtype)
        rows = [(f"{e.get('engine', '')} head {e['head_dim']}, {e['length']} tokens, {way}".strip(), e[f"{way}_flops_per_second"] / TERA,
                 share(e[f"{way}_flops_per_second"], peak), colour)
                for e in entries for colour, way in enumerate(("forward", "backward"))]
        parts.append(rates(f"Attention, {dtype}", rows, peak))
    peer = figures.get("peer")
    if peer:
        rows = [(f"{e['engine']}, {e['length']} tokens, {way}", e[f"{way}_flops_per_second"] / TERA,
                 share(e[f"{way}_flops_per_second"], peaks.get("bfloat16")), 2 + colour)
                for e in peer["attention"] for colour, way in enumerate(("forward", "backward"))]
        parts.append(rates(f"Attention of PyTorch {peer['torch']}, bfloat16, heads of "
                           f"{peer['attention'][0]['head_dim'] if peer['attention'] else '-'}", rows, peaks.get("bfloat16")))
        parts.append("<h3>Carillon by PyTorch</h3>")
        parts.append(table(["", "ratio"], [[safe(name), f"{ratio:.2f}"] for name, ratio in figures["ratios"].items()]))
        parts.append("".join(f"<p>{safe(line)}</p>" for line in peer["not_measured"]))
    links = [(name, profile.get(key, 0) / GIGA, "", 0) for name, key in LINKS]
    links += [(f"{message['operation']}, {message['ranks']} ranks", message["fit"]["bytes_per_second"] / GIGA, "", 0)
              for message in profile.get("messages", [])]
    parts.append(f"<h3>Memory, copies, links</h3>{charts.bars([row for row in links if row[1] > 0], 'GB/s')}")
    whole = safe(json.dumps(profile, indent=1))
    parts.append(f"<details><summary>the whole profile</summary><pre>{whole}</pre></details>")
    return "".join(parts)


def share(rate, peak):
    return f"{100 * rate / peak:.0f} %" if peak else ""


def rates(title, rows, peak):
    line = f" (line: the peak, {peak / TERA:.0f} TFLOP/s)" if peak else ""
    return f"<h3>{safe(title + line)}</h3>{charts.bars(rows, 'TFLOP/s', peak and peak / TERA)}"


def longest(figures, _):
    parts = []
    for entry in figures.get("geometries", []):
        if "measured_bytes" not in entry:
            continue
        given = f" in place of {safe(', '.join(entry['does_not_fit']))}, not to be held here" if "does_not_fit" in entry else ""
        parts.append(f"<h3>{safe(entry['geometry'])}{given}: {entry['length']} of at most "
                     f"{entry['longest_by_memory']} tokens</h3><p>{safe(' '.join(entry['keys']))}</p>")
        allocated = entry["planned_bytes"] - entry["libraries_bytes"]
        parts.append(charts.bars([
            ("planned, without libraries", allocated / GIB, "", 0),
            ("planned, with its allowance", entry["planned_bytes"] / GIB, "", 0),
            ("measured on the device", entry["measured_bytes"] / GIB, "", 1)], "GiB", entry["device_bytes"] / GIB))
        rows = [(f"planned by {entry['planned_by']}", entry["planned_seconds"], "", 0)]
        if entry.get("planned_seconds_built_in"):
            rows.append(("planned by the built-in profile", entry["planned_seconds_built_in"], "", 0))
        parts.append(charts.bars([*rows, ("measured", entry["step_seconds"], "", 1)], "s a step"))
    return "".join(parts)


def profiler(figures, _):
    return "".join(f"<h3>{safe(kernel)}</h3>" + table(["metric", ""], [[safe(name), safe(value)]
                                                                       for name, value in metrics.items()])
                   for kernel, metrics in figures.items())


FIGURES = {"profiler": profiler, "facts": facts, "training": training, "bench": bench, "longest": longest}
