#!/usr/bin/env python3
"""Prints the tables of launch/reproduce_language.sh from the results of its sweeps: python3 launch/experiments/language_tables.py OUT

Loss in nats per token of whole held-out documents, cut to each length. Also its difference from YaRN (and from none) with the same
seed: the mean over seeds ± the standard error over seeds (n−1), and the standard error over documents of that mean. A 95 %
interval is 1.96 times the latter, or 4.30 times the former for three seeds.
"""

import json
import math
import pathlib
import sys


def spread(values):
    """Returns mean and standard error."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def cell(values, form="+.5f"):
    if not values:
        return "-"
    mean, error = spread(values)
    return f"{mean:{form}}" + (f" ± {error:{form.lstrip('+')}}" if error is not None else "")


def run_of(model):
    method, _, seed = pathlib.PurePath(model).name.rpartition("-")
    return method, int(seed)


def losses(folder):
    """Returns {(method, length): {seed: loss}} from each point's last record."""
    records = {}
    for line in (folder / "sweep" / "evals.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == "ok":
            method, seed = run_of(record["model"])
            records.setdefault((method, record["length"]), {})[seed] = record["metrics"]["loss"]
    return records


def comparisons(folder, baseline):
    path = folder / f"comparisons-{baseline}.json"
    found = json.loads(path.read_text()) if path.exists() else {"comparisons": [], "seeds": []}
    # Until the baseline's run of the same seed is finished, another seed's is used; that is not a pair.
    found["comparisons"] = [entry for entry in found["comparisons"] if run_of(entry["model"])[1] == run_of(entry["baseline_model"])[1]]
    return found


def over_documents(document, method, length):
    """Returns the standard error over documents of the mean over seeds, or a single run's own."""
    for group in document["seeds"]:
        if group["length"] == length and run_of(group["runs"][0])[0] == method and "difference" in group:
            return group["difference_standard_error_over_documents"]
    found = [entry.get("standard_error") for entry in document["comparisons"]
             if entry["length"] == length and run_of(entry["model"])[0] == method]
    return found[0] if len(found) == 1 else None


def show(folder, title):
    measured = losses(folder)
    lengths = sorted({length for _, length in measured})
    methods = list(dict.fromkeys(method for method, _ in measured))
    print(f"\n### {title}\n")
    documents = {baseline: comparisons(folder, baseline) for baseline in ("yarn", "none")}
    print("| trained with | seeds | " + " | ".join(f"loss, {length}" for length in lengths) + " | " +
          " | ".join(f"− YaRN, {length}" for length in lengths) + f" | over documents, {lengths[-1]} | − none, {lengths[-1]} |")
    print("|---" * (4 + 2 * len(lengths)) + "|")
    for method in methods:
        row = [method, str(len(measured[method, lengths[0]]))]
        row += [cell(list(measured.get((method, length), {}).values()), ".4f") for length in lengths]

        def differences(baseline, length):
            return [entry["difference"] for entry in documents[baseline]["comparisons"]
                    if "difference" in entry and entry["length"] == length and run_of(entry["model"])[0] == method]
        row += [cell(differences("yarn", length)) for length in lengths]
        error = over_documents(documents["yarn"], method, lengths[-1])
        row.append(f"± {error:.5f}" if error is not None else "-")
        row.append(cell(differences("none", lengths[-1])))
        print("| " + " | ".join(row) + " |")

    # By position at the longest length.
    bins = {}
    for entry in documents["yarn"]["comparisons"]:
        if entry["length"] == lengths[-1]:
            for part in entry.get("by_position", []):
                bins.setdefault((part["from"], part["to"]), {}).setdefault(run_of(entry["model"])[0], []).append(part["difference"])
    others = [method for method in methods if any(method in row for row in bins.values())]
    if others:
        print(f"\nLoss less YaRN's by position in documents of {lengths[-1]} tokens, mean over seeds ± standard error over seeds:\n")
        print("| position | " + " | ".join(others) + " |")
        print("|---" * (1 + len(others)) + "|")
        for (begin, end), row in sorted(bins.items()):
            print(f"| {begin}–{end - 1} | " + " | ".join(cell(row.get(method, [])) for method in others) + " |")


def show_training(out):
    """Prints how flat the loss is at the end of training: its mean over the last tenth of the steps, and its change from the tenth before."""
    print("\n| run | steps | tokens | loss, last tenth | change from the tenth before | tokens a second |")
    print("|---|---|---|---|---|---|")
    for path in sorted(out.glob("head*-base*/short/*/metrics.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        tenth = len(records) // 10
        if tenth == 0 or not (path.parent.parent / f"{path.parent.name}.done").exists():
            continue
        last, before = ([r["loss"] for r in part] for part in (records[-tenth:], records[-2 * tenth:-tenth]))
        rate = sorted(r["tokens_per_second"] for r in records)[len(records) // 2]
        print(f"| {path.parent.relative_to(out)} | {len(records)} | {records[-1]['tokens_total'] / 1e6:.1f} M | "
              f"{sum(last) / tenth:.3f} | {sum(last) / tenth - sum(before) / tenth:+.3f} | {rate:.0f} |")


def main():
    out = pathlib.Path(sys.argv[1])
    for name in ("text/packages.tsv", "tokens.txt"):
        if (out / name).exists():
            print((out / name).read_text())
    show_training(out)
    for folder in sorted(out.glob("head*-base*/*")):
        if (folder / "sweep" / "evals.jsonl").exists():
            head, base = folder.parent.name.removeprefix("head").split("-base")
            what = {"short": "trained from the start at the short length"}.get(folder.name, folder.name.replace("-x", " ×"))
            show(folder, f"{what}; heads of {head}, base {base}")


if __name__ == "__main__":
    main()
