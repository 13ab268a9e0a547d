"""`carillon sweep`: results as computed in plain Python from `carillon score`; killed and restarted; shared by workers."""

import json
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder

LAYOUTS = {"1": (1, []), "cp2": (2, ["parallel.context=2"]), "cp4": (4, ["parallel.context=4"]),
           "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"]), "dp2": (2, ["parallel.data=2"])}


class Sweep(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.model = golden_folder.make(cls.folder, "model", "llama", cases.ARCHITECTURES["llama"])
        cls.documents = [d for d in cases.documents() if len(d) > 1]
        (cls.folder / "data.jsonl").write_text("".join(json.dumps({"tokens": d}) + "\n" for d in cases.documents()))
        cls.run_config = bb.tiny_run(cls.folder / "run", count=200)
        bb.run(1, "train", cls.run_config, "train.max_steps=6", "checkpoint.every_steps=2")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def config(self, name, **changes):
        settings = {"models": [str(self.model)], "lengths": [16, 40], "runtime": {"dtype": "float64"},
                    "rope": {"own": {}, "yarn": {"type": "yarn", "factor": 2, "resonance": True}},
                    "tasks": [{"task": "perplexity", "data": [{"path": str(self.folder / "data.jsonl")}]}],
                    "output": str(self.folder / name), **changes}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(settings))
        return path

    def records(self, name):
        lines = (self.folder / name / "evals.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def score(self, model, documents, rope=()):
        source, output = self.folder / "windows.jsonl", self.folder / "scores.jsonl"
        source.write_text("".join(json.dumps({"tokens": d}) + "\n" for d in documents))
        bb.run(1, "score", f"model={model}", f"input={source}", f"output={output}", "runtime.dtype=float64", *rope)
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def test_perplexity_is_what_python_computes_from_scores(self):
        """Windows written as separate documents, scored, and summed here."""
        def windows(n, kind, length, stride):
            if kind == "full":
                return [(0, min(n, length), 1)]
            result, done, begin = [], 0, 0
            while done < n:
                end = min(begin + length, n)
                result.append((begin, end, max(done, begin + 1)))
                done, begin = end, begin + (stride if kind == "sliding" else length)
            return result

        tasks = [{"task": "perplexity", "name": f"{kind}-{aggregation}", "window": kind, "stride": 7, "aggregation": aggregation,
                  "data": [{"path": str(self.folder / "data.jsonl")}]}
                 for kind in ("full", "blocks", "sliding") for aggregation in ("token", "window_mean")]
        for layout, (ranks, keys) in LAYOUTS.items():
            name = f"perplexity-{layout}"
            bb.run(ranks, "sweep", self.config(name, tasks=tasks), *keys)
            records = self.records(name)
            self.assertEqual(len(records), 2 * 2 * len(tasks))
            for record in records:
                kind, aggregation = record["task"].split("-")
                rope = ["rope.type=yarn", "rope.factor=2", "rope.resonance=true"] if record["rope_name"] == "yarn" else []
                cut = [(d, w) for d in cases.documents() for w in windows(len(d), kind, record["length"], 7)]
                scores = self.score(self.model, [d[b:e] for d, (b, e, _) in cut], rope)
                total, tokens, means, by_position = 0.0, 0, [], {}
                for (d, (b, e, scored)), logprobs in zip(cut, scores):
                    losses = [-logprobs[i - b] for i in range(scored, e)]
                    total, tokens = total + sum(losses), tokens + len(losses)
                    if losses:
                        means.append(sum(losses) / len(losses))
                    for i in range(scored, e):
                        by_position.setdefault((i - b).bit_length() - 1, []).append(-logprobs[i - b])
                loss = total / tokens if aggregation == "token" else sum(means) / len(means)
                metrics = record["metrics"]
                self.assertAlmostEqual(metrics["loss"], loss, delta=1e-9, msg=f"{layout} {record['task']}")
                self.assertAlmostEqual(metrics["perplexity"], math.exp(loss), delta=1e-6)
                self.assertEqual(metrics["tokens"], tokens)
                for bin_ in metrics["loss_by_position"]:
                    losses = by_position[bin_["from"].bit_length() - 1]
                    self.assertEqual(bin_["tokens"], len(losses))
                    self.assertAlmostEqual(bin_["loss"], sum(losses) / len(losses), delta=1e-9)

    def test_posgen_accuracy_is_the_argmax(self):
        """Every candidate is scored after every prefix: the largest must be the right one."""
        model, count, length, trained = self.folder / "run/run", 3, 18, 10
        bb.run(1, "posgen", self.folder / "test.jsonl", "task=semi_recursive", "split=test", f"length={length}", f"count={count}",
               "seed=1")
        sequences = [json.loads(line)["tokens"] for line in (self.folder / "test.jsonl").read_text().splitlines()]
        candidates = [(s, l, c) for s in sequences for l in range(5, length + 1) for c in range(22)]
        scores = [row[-1] for row in self.score(model, [s[:l] + [c] for s, l, c in candidates])]
        right = {"id": [], "ood": []}
        for at in range(0, len(scores), 22):
            s, l, _ = candidates[at]
            best = max(range(22), key=lambda c: scores[at + c])
            right["id" if l - 1 < trained else "ood"].append(best == s[l])
        for layout, (ranks, keys) in LAYOUTS.items():
            name = f"posgen-{layout}"
            bb.run(ranks, "sweep", self.config(name, models=[str(model)], checkpoints="newest", rope={"own": {}}, lengths=[length], tasks=[
                {"task": "posgen", "subtask": "semi_recursive", "train_length": trained, "count": count, "seed": 1}]), *keys)
            (record,) = self.records(name)
            self.assertEqual(record["step"], 6)
            for kind in ("id", "ood"):
                self.assertAlmostEqual(record["metrics"][f"{kind}_accuracy"], sum(right[kind]) / len(right[kind]), places=12)

    def test_eval_gives_one_point(self):
        bb.run(1, "sweep", self.config("one", rope={"own": {}}, lengths=[16]))
        (record,) = self.records("one")
        for ranks, keys in ((1, []), (2, ["parallel.context=2"])):
            done = bb.run(ranks, "eval", f"model={self.model}", "length=16", "runtime.dtype=float64",
                          f"task={{task: perplexity, data: [{{path: {self.folder}/data.jsonl}}]}}", *keys)
            metrics = json.loads(done.stdout)["metrics"]
            self.assertAlmostEqual(metrics["loss"], record["metrics"]["loss"], delta=1e-12)
        bb.run(1, "eval", f"model={self.model}", "length=16", expect=64)

    def many(self, name):
        return self.config(name, models=[str(self.folder / "run/run")], lengths=[8, 12, 16, 20], rope={"own": {}, "plain": {
            "type": "default", "resonance": False}}, tasks=[{"task": "posgen", "train_length": 10, "count": 300},
                                                           {"task": "posgen", "name": "cot", "subtask": "cot", "train_length": 10}])

    def metrics_by_point(self, name):
        records = self.records(name)
        self.assertEqual(len({r["point"] for r in records}), len(records), "every point exactly once")
        self.assertTrue(all(r["status"] == "ok" for r in records))
        return {r["point"]: r["metrics"] for r in records}

    def test_killed_and_restarted_gives_the_same_once(self):
        bb.run(1, "sweep", self.many("straight"))
        straight = self.metrics_by_point("straight")
        self.assertEqual(len(straight), 3 * 2 * 4 * 2)
        config, chance = self.many("killed"), random.Random(3)
        for _ in range(10):
            process = bb.start(1, "sweep", config)
            time.sleep(0.05 + 0.15 * chance.random())
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                pipe.close()
        bb.run(1, "sweep", config)
        self.assertEqual(self.metrics_by_point("killed"), straight)
        again = bb.run(1, "sweep", config)
        self.assertEqual(again.stderr, "", "nothing is left to do")

    def test_a_run_trained_anew_under_its_old_name_is_evaluated_anew(self):
        def train(seed):
            shutil.rmtree(self.folder / "anew", ignore_errors=True)
            config = bb.tiny_run(self.folder / "anew", count=20)
            bb.run(1, "train", config, "train.max_steps=2", f"train.seed={seed}")
            return self.folder / "anew"

        folder = train(1)
        output = next(path for path in folder.rglob("checkpoints")).parent
        settings = {"models": [str(output)], "checkpoints": "newest", "lengths": [16],
                    "tasks": [{"task": "perplexity", "data": [{"path": str(self.run_config.parent / "train.jsonl")}]}]}
        config = self.config("anew-sweep", **settings)
        bb.run(1, "sweep", config)
        self.assertEqual(bb.run(1, "sweep", config).stderr, "")
        before = self.records("anew-sweep")
        self.assertEqual(len(before), 2)

        train(2)
        self.assertIn(f"this is not the model that was evaluated before, {output}", bb.run(1, "sweep", config).stderr)
        after = self.records("anew-sweep")
        self.assertEqual(len(after), 4)
        bb.run(1, "sweep", self.config("anew-fresh", **settings))
        fresh = {r["point"]: r["metrics"]["loss"] for r in self.records("anew-fresh")}
        self.assertEqual({r["point"]: r["metrics"]["loss"] for r in after}, fresh)
        self.assertNotEqual({r["point"]: r["metrics"]["loss"] for r in before}, fresh)
        bb.run(1, "sweep", config)
        self.assertEqual(len(self.records("anew-sweep")), 4)

    def test_a_model_or_data_replaced_under_its_old_name_is_evaluated_anew(self):
        model = self.folder / "replaced-model"
        data = self.folder / "replaced.jsonl"

        def provide(checkpoint, first_line):
            shutil.rmtree(model, ignore_errors=True)
            bb.run(1, "export", checkpoint, model)
            lines = (self.run_config.parent / "train.jsonl").read_text().splitlines(True)
            data.write_text("".join(lines[first_line:first_line + 4]))

        checkpoints = sorted(next((self.folder / "run").rglob("checkpoints")).glob("*[0-9]"))
        provide(checkpoints[0], 0)
        config = self.config("replaced", models=[str(model)], lengths=[16],
                             tasks=[{"task": "perplexity", "data": [{"path": str(data)}]}, {"task": "posgen", "count": 4}])

        def sweep(*overrides):
            before = len(self.records("replaced")) if (self.folder / "replaced").exists() else 0
            return bb.run(1, "sweep", config, *overrides).stderr, len(self.records("replaced")) - before

        settings = 2  # of rope
        self.assertEqual(sweep()[1], 2 * settings)
        self.assertEqual(sweep(), ("", 0))

        provide(checkpoints[0], 0)  # written anew with the same content
        self.assertEqual(sweep(), ("", 0))
        provide(checkpoints[0], 4)
        said, count = sweep()
        self.assertIn("the data or settings of task perplexity are not those of its records", said)
        self.assertEqual(count, settings)
        provide(checkpoints[-1], 4)
        said, count = sweep()
        self.assertIn(f"this is not the model that was evaluated before, {model}", said)
        self.assertEqual(count, 2 * settings)
        self.assertEqual(sweep("runtime.dtype=float32")[1], 2 * settings)
        self.assertEqual(sweep("runtime.dtype=float32"), ("", 0))
        tokenizer = f"data.tokenizer={pathlib.Path(os.environ['SOURCE']) / 'tests/golden/tokenizers/gpt2'}"
        self.assertEqual(sweep("runtime.dtype=float32", tokenizer)[1], 2 * settings)
        self.assertEqual(sweep("runtime.dtype=float32", tokenizer), ("", 0))

    def test_the_base_of_an_exported_adapter_counts(self):
        base, adapter = self.folder / "adapted-base", self.folder / "adapted"
        checkpoints = sorted(next((self.folder / "run").rglob("checkpoints")).glob("*[0-9]"))
        bb.run(1, "export", checkpoints[0], base)
        lora = self.folder / "lora.yaml"
        lora.write_text(json.dumps({
            "model": {"base": str(base)}, "adapter": {"type": "lora", "rank": 2}, "rope": {"type": "yarn", "factor": 2},
            "data": {"train": [{"path": str(self.run_config.parent / "train.jsonl")}], "sequence_length": 32},
            "train": {"max_steps": 1, "learning_rate": 1e-3}, "output": str(self.folder / "adapted-run")}))
        bb.run(1, "train", lora)
        bb.run(1, "export", self.folder / "adapted-run", adapter, "format=peft")
        config = self.config("adapted-sweep", models=[str(adapter)], lengths=[16], rope={"own": {}},
                             tasks=[{"task": "posgen", "count": 4}])
        bb.run(1, "sweep", config)
        self.assertEqual(bb.run(1, "sweep", config).stderr.count("before"), 0)
        evaluated = len(self.records("adapted-sweep"))

        rotation = adapter / "base_config/config.json"
        rotation.write_text(rotation.read_text().replace('"factor": 2', '"factor": 3'))
        self.assertIn(f"this is not the model that was evaluated before, {adapter}", bb.run(1, "sweep", config).stderr)
        self.assertEqual(len(self.records("adapted-sweep")), 2 * evaluated)
        shutil.rmtree(base)
        bb.run(1, "export", checkpoints[-1], base)
        self.assertIn(f"this is not the model that was evaluated before, {adapter}",
                      bb.run(1, "sweep", config, expect=None).stderr)

    def test_an_evaluator_trained_anew_counts(self):
        """A run that selects LongPPL's tokens stands for its newest checkpoint."""
        def train(seed):
            shutil.rmtree(self.folder / "selects", ignore_errors=True)
            config = bb.tiny_run(self.folder / "selects", count=20)
            bb.run(1, "train", config, "train.max_steps=2", f"train.seed={seed}")
            return next((self.folder / "selects").rglob("checkpoints")).parent

        task = {"task": "longppl", "evaluator": str(train(1)), "short_length": 4, "stride": 2, "alpha": -100, "beta": -100,
                "data": [{"path": str(self.run_config.parent / "train.jsonl")}]}
        config = self.config("selected", models=[str(next((self.folder / "run").rglob("checkpoints")).parent)], checkpoints="newest",
                             lengths=[16], rope={"own": {}}, tasks=[task])
        bb.run(1, "sweep", config)
        self.assertEqual(bb.run(1, "sweep", config).stderr, "")
        train(2)
        self.assertIn("the data or settings of task longppl are not those of its records", bb.run(1, "sweep", config).stderr)

    def test_four_workers_share_one_grid(self):
        bb.run(1, "sweep", self.many("alone"))
        config = self.many("shared")
        workers = [bb.start(1, "sweep", config) for _ in range(4)]
        for worker in workers:
            worker.communicate(timeout=60)
            self.assertEqual(worker.returncode, 0)
        self.assertEqual(self.metrics_by_point("shared"), self.metrics_by_point("alone"))

    def test_watching_a_run_until_it_ends(self):
        """Started before the run, it evaluates every checkpoint as it appears and exits when the run has ended."""
        folder = self.folder / "watched"
        config = self.config("watching", models=[str(folder / "run")], lengths=[12], rope={"own": {}}, watch=True,
                             tasks=[{"task": "posgen", "train_length": 10, "count": 20}])
        watcher = bb.start(1, "sweep", config)
        run = bb.tiny_run(folder, count=200)
        bb.run(1, "train", run, "train.max_steps=8", "checkpoint.every_steps=2", "checkpoint.keep=10")
        watcher.communicate(timeout=30)
        self.assertEqual(watcher.returncode, 0)
        self.assertEqual([r["step"] for r in self.records("watching")], [2, 4, 6, 8])
        self.assertIn("<polyline", (folder / "run/report.html").read_text())
        bb.run(1, "train", run, "train.max_steps=12", "checkpoint.every_steps=2", "checkpoint.keep=10")
        bb.run(1, "sweep", config)
        self.assertEqual([r["step"] for r in self.records("watching")], [2, 4, 6, 8, 10, 12])

    def test_a_page_of_any_folder(self):
        bb.run(1, "sweep", self.config("heat", lengths=[40, 60], rope={"own": {}}, tasks=[
            {"task": "passkey", "trials": 2, "depths": 3}, {"task": "posgen", "train_length": 10, "count": 5}]))
        page = self.folder / "heat.html"
        bb.run(1, "report", self.folder / "heat", page)
        self.assertEqual(page.read_text(), (self.folder / "heat/report.html").read_text())
        for part in ('class="heat"', "50 %", "critical dimension", "accuracy", "by position"):
            self.assertIn(part, page.read_text())
        bb.run(1, "report", self.folder / "run/run", page)
        for part in ("Training", "configuration of", "wavelength", "gradient norm"):
            self.assertIn(part, page.read_text())
        self.assertNotIn("<script", page.read_text())
        bb.run(1, "report", self.folder / "nowhere", page, expect=66)
        bb.run(1, "report", self.folder / "heat", expect=64)

    def test_a_failing_point_is_recorded_and_the_others_go_on(self):
        missing = self.folder / "later.jsonl"
        config = self.config("failing", rope={"own": {}}, lengths=[16], tasks=[
            {"task": "perplexity", "name": "bad", "data": [{"path": str(missing)}]},
            {"task": "perplexity", "name": "good", "data": [{"path": str(self.folder / "data.jsonl")}]}])
        for ranks, keys in ((1, []), (2, ["parallel.context=2"])):
            done = bb.run(ranks, "sweep", config, *keys, expect=65)
            self.assertIn("carillon: error: 1 of 2 points failed", done.stderr)
        status = {r["task"]: r for r in self.records("failing")}
        self.assertEqual((status["bad"]["status"], status["good"]["status"]), ("failed", "ok"))
        self.assertIn("later.jsonl", status["bad"]["error"])
        missing.write_text('{"tokens":[1,2,3]}\n')
        bb.run(1, "sweep", config)
        self.assertEqual({r["task"]: r["status"] for r in self.records("failing")}, {"bad": "ok", "good": "ok"})

    def test_files_and_names(self):
        name = "<script>alert(1)</script>"
        config = self.config("files", rope={name: {}}, lengths=[8, 16])
        done = bb.run(1, "sweep", config)
        self.assertIn("perplexity", done.stdout)
        report = (self.folder / "files/report.html").read_text()
        self.assertNotIn("<script", report)
        self.assertIn("&lt;script&gt;", report)
        self.assertIn("<polyline", report)
        table = (self.folder / "files/table.csv").read_text().splitlines()
        self.assertEqual(table[0], "model,step,rope,length,task,metric,value")
        self.assertIn("results", json.loads((self.folder / "files/lm_eval.json").read_text()))

    def test_bad_configurations(self):
        def refused(says, **changes):
            done = bb.run(1, "sweep", self.config("refused", **changes), expect=64)
            self.assertIn(says, done.stderr)
        refused("no task passkay", tasks=[{"task": "passkay"}])
        refused("aggregation", tasks=[{"task": "perplexity", "agregation": "token"}])
        refused("stride 300", tasks=[{"task": "perplexity", "window": "sliding", "stride": 300, "data": []}])
        refused("names no data", tasks=[{"task": "perplexity"}])
        refused("two tasks", tasks=[{"task": "posgen"}, {"task": "posgen"}])
        refused("it takes integer ≥ 2", lengths=[1])
        # Rope settings are read as a run's `rope:` is: a typing error does not score the model's own rope under another name.
        for setting in ({"facto": 2}, {"type": "yarn", "factor": 4, "beta_fst": 16}, {"sliding_attention": {"facto": 2}}):
            refused("unknown key", rope={"x": setting})
        refused("did you mean rope.factor?", rope={"own": {}, "x": {"facto": 2}})
        refused("rope.factor", rope={"x": {"type": "yarn", "factor": -1}})
        refused("rope.factor", rope={"x": {"type": "yarn", "factor": "4"}})
        refused("rope.type", rope={"x": {"type": "yran", "factor": 4}})
        for setting in (5, "yarn", [1]):
            refused("the setting x of rope", rope={"own": {}, "x": setting})
        refused("rope is ", rope=["yarn"])
        for name in ("", " "):
            refused("a setting of rope has no name", rope={"own": {}, name: {"type": "yarn", "factor": 4}})
        config = self.config("named", lengths=[8])
        for factor, name in enumerate(("x~y", "x/y", "x~0"), 2):  # '~' and '/' are special in JSON pointers
            bb.run(1, "sweep", config, f"rope.{name}.factor={factor}", f"rope.{name}.type=linear")
            self.assertIn({"factor": factor, "type": "linear"}, [r["rope"] for r in self.records("named") if r["rope_name"] == name])
        done = bb.run(1, "eval", "model=x", "length=8", "task={task: posgen}", "rope.facto=2", expect=64)
        self.assertIn("did you mean rope.factor?", done.stderr)
        for empty in ("lengths", "models", "tasks"):
            refused(f"{empty} is empty", **{empty: []})
        bb.run(1, "sweep", self.config("refused", models=["nowhere"]), expect=66)
        # Points listed twice would count twice in means and standard errors.
        refused("16 is given twice, in lengths", lengths=[16, 40, 16])
        refused("model is given twice, in models", models=[str(self.model), str(self.model)])
        refused("4 is given twice, in checkpoints", models=[str(self.folder / "run/run")], checkpoints=[4, 2, 4])
        for name in (5, None, True, ""):
            refused("name of task posgen is", tasks=[{"task": "posgen", "name": name}])
        for data in ([], ["text.txt"], [{"path": 5}], [{"pth": "text.txt"}], "text.txt"):
            refused("data of task perplexity is", tasks=[{"task": "perplexity", "data": data}])
        refused("modulus of task posgen is 1", tasks=[{"task": "posgen", "modulus": 1}])
        refused("far of task posgen is -1", tasks=[{"task": "posgen", "far": -1}])

    def test_a_name_that_stands_for_other_settings_mixes_no_row(self):
        """The page shows what table.csv shows: values of a name's former settings are left out."""
        data = [{"path": str(self.folder / "data.jsonl")}]
        def sweep(factor, window, lengths):
            bb.run(1, "sweep", self.config("renamed", rope={"own": {}, "y": {"type": "yarn", "factor": factor}}, lengths=lengths,
                                           tasks=[{"task": "perplexity", "data": data, "window": window}]))
            page = (self.folder / "renamed/report.html").read_text()
            return page, re.findall(r"<tr><td>[^<]*</td><td>(\w+)</td><td>(.*?)</td><td>(.*?)</td></tr>", page[:page.index("</table>")])
        page, rows = sweep(2, "full", [16, 40])
        self.assertNotIn("not shown", page)
        self.assertEqual([name for name, *values in rows if "&ndash;" not in values], ["own", "y"])
        page, rows = sweep(8, "full", [40])
        self.assertIn("2 more are not shown", page)
        self.assertEqual([name for name, short, long in rows if short != "&ndash;"], ["own"], "another length of the same settings stays")
        self.assertIn("&ndash;", dict((name, short) for name, short, _ in rows)["y"])
        page, rows = sweep(8, "blocks", [40])
        self.assertIn("5 more are not shown", page)
        bb.run(1, "report", self.folder / "renamed", self.folder / "renamed.html")
        self.assertEqual((self.folder / "renamed.html").read_text(), page)

    def test_a_line_that_is_no_record_is_named(self):
        config = self.config("lines", lengths=[8], rope={"own": {}})
        bb.run(1, "sweep", config)
        evals = self.folder / "lines/evals.jsonl"
        whole = evals.read_text()
        record = json.loads(whole)
        for change in ({"metrics": None}, {"metrics": [1]}, {"status": 5}, {"point": 5}, {"point": None}):
            evals.write_text(json.dumps({key: value for key, value in {**record, **change}.items() if value is not None}) + "\n")
            self.assertIn("this line is not a record, " + f"{evals}:1", bb.run(1, "sweep", config, expect=65).stderr)
        evals.write_text(whole)
        bb.run(1, "sweep", config)

    def test_watched_checkpoints_are_listed_in_order(self):
        run = self.folder / "ordered"
        def train(steps):
            bb.run(1, "train", self.run_config, f"train.max_steps={steps}", "checkpoint.every_steps=2", f"output={run}")
        train(4)
        (run / "ended").unlink()
        data = [{"path": str(self.run_config.parent / "train.jsonl")}]
        sweep = bb.start(1, "sweep", self.config("ordered-sweep", models=[str(run)], lengths=[16], rope={"own": {}}, watch=True,
                                                 tasks=[{"task": "perplexity", "data": data}]))
        records = self.folder / "ordered-sweep/evals.jsonl"
        deadline = time.monotonic() + 60
        while (not records.exists() or records.read_text().count("\n") < 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(run / "checkpoints/step-00000002")  # as rotation does
        train(6)
        errors = sweep.communicate(timeout=120)[1]
        self.assertEqual(sweep.returncode, 0, errors)
        rows = [line.split(",") for line in (self.folder / "ordered-sweep/table.csv").read_text().splitlines()]
        self.assertEqual([row[1] for row in rows if row[5] == "perplexity"], ["2", "4", "6"])


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
