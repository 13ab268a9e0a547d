"""Paired comparisons of a sweep, against the same figures computed here from the losses of `carillon score`."""

import csv
import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder

LAYOUTS = {"1": (1, []), "cp2": (2, ["parallel.context=2"]), "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"]),
           "dp2": (2, ["parallel.data=2"])}
TRAINED, STRIDE = 24, 7
ROPES = {"own": {}, "yarn": {"type": "yarn", "factor": 4}, "resonance_yarn": {"type": "yarn", "factor": 4, "resonance": True}}
KEYS = {"own": [], "yarn": ["rope.type=yarn", "rope.factor=4"],
        "resonance_yarn": ["rope.type=yarn", "rope.factor=4", "rope.resonance=true"]}


def windows(count, kind, length):
    """[begin, end) and the first scored token of each."""
    if kind == "full":
        return [(0, min(count, length), 1)]
    result, done, begin = [], 0, 0
    while done < count:
        end = min(begin + length, count)
        result.append((begin, end, max(done, begin + 1)))
        done, begin = end, begin + (STRIDE if kind == "sliding" else length)
    return result


def ratio(terms):
    """(mean, standard error) of [(sum of differences, tokens)]."""
    n, tokens = len(terms), sum(w for _, w in terms)
    mean = sum(d for d, _ in terms) / tokens
    if n < 2:
        return mean, None
    return mean, math.sqrt(n / (n - 1) * sum((d - mean * w) ** 2 for d, w in terms)) / tokens


class Compare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        config = {**cases.ARCHITECTURES["llama"], "max_position_embeddings": TRAINED}
        cls.model = golden_folder.make(cls.folder, "model", "llama", config)
        draw = random.Random(7)
        cls.documents = [[draw.randrange(61) for _ in range(draw.randrange(2, 75))] for _ in range(9)]
        cls.documents.insert(4, cls.documents[1])  # a duplicate
        cls.data = cls.write("data.jsonl", cls.documents + [[5]])  # a document without a token to score
        cls.scored = {}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def write(cls, name, documents):
        path = cls.folder / name
        path.write_text("".join(json.dumps({"tokens": d}) + "\n" for d in documents))
        return path

    def tasks(self, *windows):
        return [{"task": "perplexity", "name": kind, "window": kind, "stride": STRIDE, "data": [{"path": str(self.data)}]}
                for kind in windows]

    def sweep(self, name, *keys, ranks=1, expect=0, **changes):
        settings = {"models": [str(self.model)], "lengths": [16, 40], "runtime": {"dtype": "float64"}, "rope": ROPES,
                    "tasks": self.tasks("full", "blocks", "sliding"),
                    "compare": {"baseline": "yarn"}, "output": str(self.folder / name), **changes}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(settings))
        return bb.run(ranks, "sweep", path, *keys, expect=expect)

    def comparisons(self, name):
        return json.loads((self.folder / name / "comparisons.json").read_text())

    def losses(self, documents, rope, kind, length):
        """[(position in its window, loss)] of each document"""
        cut = [(i, window) for i, d in enumerate(documents) for window in windows(len(d), kind, length)]
        source, output = self.folder / "windows.jsonl", self.folder / "scores.jsonl"
        source.write_text("".join(json.dumps({"tokens": documents[i][a:b]}) + "\n" for i, (a, b, _) in cut))
        bb.run(1, "score", f"model={self.model}", f"input={source}", f"output={output}", "runtime.dtype=float64", *KEYS[rope])
        result = [[] for _ in documents]
        for (i, (begin, end, first)), line in zip(cut, output.read_text().splitlines()):
            logprobs = json.loads(line)["logprobs"]
            result[i] += [(at - begin, -logprobs[at - begin]) for at in range(first, end)]
        return result

    def differences(self, documents, rope, kind, length):
        key = (len(documents), rope, kind, length)
        if key not in self.scored:
            ours, theirs = (self.losses(documents, name, kind, length) for name in (rope, "yarn"))
            self.scored[key] = [[(p, a - b) for (p, a), (_, b) in zip(x, y)] for x, y in zip(ours, theirs) if x]
        return self.scored[key]

    def near(self, found, wanted, what):
        self.assertEqual(found is None, wanted is None, what)
        if wanted is not None:
            self.assertLess(abs(found - wanted), 1e-11, what)

    def check_bins(self, bins, documents, offset, what):
        self.assertGreater(len(bins), 1)
        for b in bins:
            inside = [[d for p, d in document if b["from"] <= p - offset < b["to"]] for document in documents]
            terms = [(sum(part), len(part)) for part in inside if part]
            mean, error = ratio(terms)
            self.assertEqual((b["tokens"], b["units"]), (sum(w for _, w in terms), len(terms)), what)
            self.near(b["difference"], mean, (what, b))
            self.near(b["standard_error"], error, (what, b))

    def test_differences_are_what_python_computes(self):
        for layout, (ranks, keys) in LAYOUTS.items():
            # One rank covers all windows and both lengths; the other layouts cover the windows past the trained length.
            changes = {} if layout == "1" else {"lengths": [40], "tasks": self.tasks("blocks", "sliding")}
            done = self.sweep(f"documents-{layout}", *keys, ranks=ranks, **changes)
            found = self.comparisons(f"documents-{layout}")
            self.assertEqual(found["baseline"], "yarn")
            self.assertEqual(len(found["comparisons"]), 3 * 2 * 2 if layout == "1" else 2 * 2)
            for entry in found["comparisons"]:
                what = (layout, entry["task"], entry["length"], entry["rope"])
                self.assertEqual((entry["baseline_rope"], entry["unit"], entry["units"]), ("yarn", "documents", 10), what)
                documents = self.differences(self.documents, entry["rope"], entry["task"], entry["length"])
                mean, error = ratio([(sum(d for _, d in document), len(document)) for document in documents])
                self.near(entry["difference"], mean, what)
                self.near(entry["standard_error"], error, what)
                self.check_bins(entry["by_position"], documents, 0, what)
                if entry["length"] > TRAINED:
                    past = [b for b in entry["past_training"]]
                    self.assertEqual(past[0]["from"], 0)
                    inside = [[d for p, d in document if p >= TRAINED] for document in documents]
                    self.assertEqual(past[0]["tokens"], sum(map(len, inside)))
                    self.near(past[0]["difference"], sum(map(sum, inside)) / sum(map(len, inside)), what)
                else:
                    self.assertEqual(entry["past_training"], [])
            with open(self.folder / f"documents-{layout}" / "table.csv") as file:
                rows = {(r["rope"], r["length"], r["task"], r["metric"]): float(r["value"]) for r in csv.DictReader(file)}
            for entry in found["comparisons"]:
                at = (entry["rope"], str(entry["length"]), entry["task"])
                self.assertEqual(rows[*at, "loss_difference"], entry["difference"])
                self.assertEqual(rows[*at, "loss_difference_standard_error"], entry["standard_error"])
                self.assertNotIn(("yarn", *at[1:], "loss_difference"), rows)
            self.assertIn("loss less that of yarn", done.stdout)
            # One row per setting and task, with all lengths.
            tables = done.stdout.split("loss less that of yarn")
            self.assertEqual(len(tables), 1 + len({entry["task"] for entry in found["comparisons"]}))
            for table in tables[1:]:
                shown = [line.split()[1] for line in table.split("by position")[0].splitlines()
                        if line.startswith(str(self.model))]
                self.assertEqual(shown, ["own", "resonance_yarn"])
            sample = found["comparisons"][0]
            self.assertIn(f"{sample['difference']:+.5f} ± {sample['standard_error']:.5f}", done.stdout)
        page = (self.folder / "documents-1" / "report.html").read_text()
        self.assertIn('class="bar"', page)
        self.assertIn("equal</text>", page)  # the zero line
        again = self.folder / "again.html"
        bb.run(1, "report", self.folder / "documents-1", again)
        self.assertEqual(again.read_text(), page)
        for damaged in ("[1, 2", '{"comparisons": [{"task": "full"}]}', '{"comparisons": [5]}'):
            (self.folder / "documents-1" / "comparisons.json").write_text(damaged)
            self.assertIn("comparisons.json", bb.run(1, "report", self.folder / "documents-1", again, expect=65).stderr)

    def test_one_document_in_blocks(self):
        draw = random.Random(3)
        book = [[draw.randrange(61) for _ in range(5000)]]
        data = self.write("book.jsonl", [[5], *book, [7]])  # the other two documents have no token to score
        tasks = [{"task": "perplexity", "window": "blocks", "data": [{"path": str(data)}]}]
        self.sweep("book", lengths=[600], tasks=tasks)
        for entry in self.comparisons("book")["comparisons"]:
            values = self.differences(book, entry["rope"], "blocks", 600)[0]
            # Pieces of 256 scored tokens, in order, joined as long as neighbours correlate.
            pieces = [[sum(d for _, d in values[i:i + 256]), len(values[i:i + 256])] for i in range(0, len(values), 256)]

            def joined(size):
                blocks = max(1, len(pieces) // size)
                result = [[0, 0] for _ in range(blocks)]
                for i, (d, w) in enumerate(pieces):
                    at = min(i // size, blocks - 1)
                    result[at] = [result[at][0] + d, result[at][1] + w]
                return result

            def correlated(terms):
                mean = ratio(terms)[0]
                rest = [d - mean * w for d, w in terms]
                r = sum(a * b for a, b in zip(rest, rest[1:])) / sum(a * a for a in rest)
                return abs(r) > 2 / math.sqrt(len(terms))

            size = 4
            while size > 1 and len(pieces) // size < 8:
                size //= 2
            while len(pieces) // (2 * size) >= 8 and correlated(joined(size)):
                size *= 2
            mean, error = ratio(joined(size))
            self.assertEqual((entry["unit"], entry["units"]), (f"blocks of {256 * size} tokens", len(joined(size))))
            self.near(entry["difference"], mean, entry["rope"])
            self.near(entry["standard_error"], error, entry["rope"])

    def test_resumed_and_damaged(self):
        self.sweep("whole")
        whole = self.comparisons("whole")
        self.sweep("broken")
        folder = self.folder / "broken"
        lines = (folder / "evals.jsonl").read_text().splitlines(keepends=True)
        (folder / "evals.jsonl").write_text("".join(lines[:-3]))  # as if it had been killed before its last records
        self.sweep("broken")
        rename = json.loads(json.dumps(self.comparisons("broken")))
        self.assertEqual(rename, whole)
        # A point without losses is not compared, the others are; the line says how to fix it.
        point = next(json.loads(line)["point"] for line in lines if json.loads(line)["rope_name"] == "own")
        (folder / "losses" / f"{point}.json").unlink()
        done = self.sweep("broken")
        self.assertIn("is not compared with", done.stderr)
        refused = [entry for entry in self.comparisons("broken")["comparisons"] if "refused" in entry]
        self.assertEqual(len(refused), 1)
        self.assertIn("evaluate the point again", refused[0]["refused"])
        (folder / "losses" / f"{point}.json").write_text("[1, 2")
        self.assertIn("is not compared with", self.sweep("broken").stderr)
        self.assertEqual(len([e for e in self.comparisons("broken")["comparisons"] if "refused" in e]), 1)

    def test_baselines(self):
        refused = self.sweep("unknown", expect=64, compare={"baseline": "yarm"})
        self.assertIn("compare.baseline", refused.stderr)
        # The default baseline is the first setting, or the first model if there is only one setting.
        self.sweep("default", compare={})
        self.assertEqual(self.comparisons("default")["baseline"], "own")
        other = golden_folder.make(self.folder, "other", "llama",
                                   {**cases.ARCHITECTURES["llama"], "max_position_embeddings": TRAINED, "rms_norm_eps": 0.5})
        self.sweep("models", compare={}, rope={"own": {}}, models=[str(self.model), str(other)])
        found = self.comparisons("models")
        self.assertEqual([entry["model"] for entry in found["comparisons"]], [str(other)] * 6)
        self.assertEqual({entry["baseline_model"] for entry in found["comparisons"]}, {str(self.model)})
        records = [json.loads(line) for line in (self.folder / "models" / "evals.jsonl").read_text().splitlines()]
        loss = {(r["model"], r["task"], r["length"]): r["metrics"]["loss"] for r in records}
        for entry in found["comparisons"]:
            at = (entry["task"], entry["length"])
            self.near(entry["difference"], loss[str(other), *at] - loss[str(self.model), *at], at)

    def test_other_tokens_are_refused(self):
        import numpy
        from safetensors.numpy import save_file
        models = []
        for name in ("gpt2", "llama3"):
            model = golden_folder.make(self.folder, f"model-{name}", "llama",
                                       {**cases.ARCHITECTURES["llama"], "vocab_size": 420})
            data = (model / "model.safetensors").read_bytes()
            header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
            draw = numpy.random.default_rng(1)
            save_file({key: draw.normal(size=[420 if n == 61 else n for n in t["shape"]]).astype(numpy.float32) * 0.2
                       for key, t in header.items() if key != "__metadata__"}, model / "model.safetensors", {"format": "pt"})
            shutil.copy(HERE.parent / "golden" / "tokenizers" / name / "tokenizer.json", model)
            models.append(str(model))
        text = self.folder / "text.jsonl"
        text.write_text("".join(json.dumps({"text": f"in the year {i} some {i * 7} things were written down"}) + "\n"
                                for i in range(5)))
        tasks = [{"task": "perplexity", "data": [{"path": str(text)}]}]
        done = self.sweep("tokenizers", rope={"own": {}}, compare={}, models=models, tasks=tasks, lengths=[64])
        self.assertIn("the tokenizers differ", done.stderr)
        entry, = self.comparisons("tokenizers")["comparisons"]
        self.assertIn("the tokenizers differ", entry["refused"])
        self.assertNotIn("difference", entry)
        self.assertNotIn("loss_difference", (self.folder / "tokenizers" / "table.csv").read_text())
        self.assertIn("the tokenizers differ", (self.folder / "tokenizers" / "report.html").read_text())
        shutil.copy(pathlib.Path(models[0]) / "tokenizer.json", models[1])
        done = self.sweep("one-tokenizer", rope={"own": {}}, compare={}, models=models, tasks=tasks, lengths=[64])
        self.assertIn("difference", self.comparisons("one-tokenizer")["comparisons"][0])

    def test_seeds(self):
        config = bb.tiny_run(self.folder / "seeds", count=64)
        runs = {}
        for rate in ("3e-3", "1e-3"):
            for seed in (1, 2, 3):
                run = self.folder / f"run-{rate}-{seed}"
                bb.run(1, "train", config, f"train.seed={seed}", f"train.learning_rate={rate}", "train.max_steps=4",
                       f"output={run}")
                runs[rate, seed] = str(run)
        lone = self.folder / "lone"
        bb.run(1, "train", config, "train.seed=1", "train.weight_decay=0.2", "train.max_steps=4", f"output={lone}")
        data = self.folder / "seeds" / "train.jsonl"
        tasks = [{"task": "perplexity", "data": [{"path": str(data)}]}]
        models = [*runs.values(), str(lone)]
        done = self.sweep("seeds-sweep", models=models, rope={"own": {}}, lengths=[32], tasks=tasks,
                          compare={"baseline": runs["3e-3", 1]})
        found = self.comparisons("seeds-sweep")
        partners = {entry["model"]: entry["baseline_model"] for entry in found["comparisons"]}
        self.assertEqual(partners, {**{runs["1e-3", s]: runs["3e-3", s] for s in (1, 2, 3)}, str(lone): runs["3e-3", 1]})
        records = [json.loads(line) for line in (self.folder / "seeds-sweep" / "evals.jsonl").read_text().splitlines()]
        loss = {r["model"]: r["metrics"]["loss"] for r in records}
        perplexity = {r["model"]: r["metrics"]["perplexity"] for r in records}
        self.assertEqual(len(found["seeds"]), 2)

        def over(values):
            mean = sum(values) / len(values)
            return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))

        for entry in found["seeds"]:
            self.assertEqual(entry["seeds"], [1, 2, 3])
            mean, error = over([perplexity[run] for run in entry["runs"]])
            self.near(entry["mean"], mean, "mean")
            self.near(entry["standard_error"], error, "error")
        compared, = [entry for entry in found["seeds"] if "difference" in entry]
        mean, error = over([loss[runs["1e-3", s]] - loss[runs["3e-3", s]] for s in (1, 2, 3)])
        self.near(compared["difference"], mean, "difference")
        self.near(compared["difference_standard_error"], error, "over seeds")
        # The standard error over documents is a different number.
        self.assertGreater(abs(compared["difference_standard_error_over_documents"] - error), 1e-6)
        self.assertIn("over seeds", done.stdout)
        self.assertIn("over seeds", (self.folder / "seeds-sweep" / "report.html").read_text())
        # A second run of a seed, or the same run under another path, is no further seed.
        copy = self.folder / "copy"
        copy.symlink_to(runs["3e-3", 2])
        self.sweep("seeds-again", models=[runs["3e-3", 1], runs["3e-3", 2], str(copy)], rope={"own": {}}, lengths=[32], tasks=tasks,
                   compare={})
        entry, = self.comparisons("seeds-again")["seeds"]
        self.assertEqual(entry["seeds"], [1, 2])
        self.near(entry["standard_error"], over([perplexity[runs["3e-3", s]] for s in (1, 2)])[1], "error")


    def test_seeds_of_bases(self):
        """Runs that started from runs of other seeds: the configuration of the bases matters, not their path."""
        config = bb.tiny_run(self.folder / "bases", count=32)
        text = config.read_text()
        further = self.folder / "bases" / "further.yaml"
        further.write_text("model: {base: %s}\n" + text[text.index("rope:"):])
        runs = {}
        for seed in (1, 2):
            base = self.folder / "bases" / f"base-{seed}"
            bb.run(1, "train", config, f"train.seed={seed}", "train.max_steps=2", f"output={base}")
            for rate in ("3e-3", "1e-3"):
                run = runs[rate, seed] = str(self.folder / "bases" / f"run-{rate}-{seed}")
                path = self.folder / "bases" / f"further-{seed}.yaml"
                path.write_text(further.read_text() % base)
                bb.run(1, "train", path, f"train.seed={seed}", f"train.learning_rate={rate}", "train.max_steps=2", f"output={run}")
        # Also of seed 2, but from the base of seed 1; and from a base that was trained differently.
        crossed = str(self.folder / "bases" / "crossed")
        bb.run(1, "train", self.folder / "bases" / "further-1.yaml", "train.seed=2", "train.learning_rate=1e-3",
               "train.max_steps=2", f"output={crossed}")
        other_base, other = self.folder / "bases" / "other-base", str(self.folder / "bases" / "other")
        bb.run(1, "train", config, "train.seed=3", "train.max_steps=3", f"output={other_base}")
        path = self.folder / "bases" / "further-3.yaml"
        path.write_text(further.read_text() % other_base)
        bb.run(1, "train", path, "train.seed=3", "train.learning_rate=1e-3", "train.max_steps=2", f"output={other}")
        tasks = [{"task": "perplexity", "data": [{"path": str(self.folder / "bases" / "train.jsonl")}]}]
        self.sweep("bases-sweep", models=[*runs.values(), crossed, other], rope={"own": {}}, lengths=[32], tasks=tasks,
                   compare={"baseline": runs["3e-3", 1]})
        found = self.comparisons("bases-sweep")
        partners = {entry["model"]: entry["baseline_model"] for entry in found["comparisons"]}
        self.assertEqual(partners[runs["1e-3", 2]], runs["3e-3", 2])
        self.assertEqual(partners[runs["1e-3", 1]], runs["3e-3", 1])
        groups = [set(entry["runs"]) for entry in found["seeds"]]
        self.assertIn({runs["3e-3", 1], runs["3e-3", 2]}, groups)
        self.assertIn({runs["1e-3", 1], runs["1e-3", 2], crossed}, groups)
        self.assertFalse(any(other in group for group in groups))


if __name__ == "__main__":
    unittest.main(verbosity=2)
