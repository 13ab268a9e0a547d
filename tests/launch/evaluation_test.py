"""Evaluation during training: records at the requested steps, equal to those of a sweep, and no effect on training."""

import json
import pathlib
import shutil
import signal
import os
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

TASKS = ("eval.tasks=[{task: perplexity, window: blocks}, {task: posgen, train_length: 16, count: 20, seed: 1}]")


class Evaluation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        cls.keys = [f"data.validation=[{{path: {cls.folder}/train.jsonl}}]", TASKS, "eval.lengths=[16, 64]",
                    "eval.rope={own: {}, plain: {type: default, resonance: false}}"]
        bb.run(1, "train", cls.config, f"output={cls.folder}/without")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def records(self, name):
        return [json.loads(line) for line in (self.folder / name / "evals.jsonl").read_text().splitlines()]

    def test_training_does_not_notice(self):
        manifest = lambda name: json.loads((self.folder / name / "checkpoints/step-00000012/manifest.json").read_text())
        for ranks, layout in ((1, []), (2, ["parallel.context=2"]), (2, ["parallel.tensor=2"])):
            bb.run(ranks, "train", self.config, f"output={self.folder}/a{layout}", *layout)
            bb.run(ranks, "train", self.config, f"output={self.folder}/b{layout}", *layout, *self.keys, "eval.every_steps=5",
                   "eval.at=[1]", "eval.at_end=true")
            self.assertEqual(bb.raw_fields(self.folder / f"a{layout}"), bb.raw_fields(self.folder / f"b{layout}"))
            self.assertEqual(manifest(f"a{layout}")["tensors"], manifest(f"b{layout}")["tensors"], "the same bits")
            records = self.records(f"b{layout}")
            self.assertEqual(sorted({r["step"] for r in records}), [1, 5, 10, 12])
            self.assertEqual(len(records), 4 * 2 * 2 * 2)
            self.assertTrue(all(r["status"] == "ok" for r in records))

    def test_training_does_not_notice_generation(self):
        """Tasks that generate have networks and a cache of their own."""
        tasks = ("eval.tasks=[{task: passkey, depths: 2, trials: 1}, "
                 "{task: posgen, train_length: 16, count: 4, seed: 1, free_running: true}]")
        bb.run(2, "train", self.config, f"output={self.folder}/generating", "parallel.context=2", tasks, "eval.lengths=[64]",
               "eval.every_steps=5")
        bb.run(2, "train", self.config, f"output={self.folder}/silent", "parallel.context=2")
        self.assertEqual(bb.raw_fields(self.folder / "generating"), bb.raw_fields(self.folder / "silent"))
        self.assertEqual([r["status"] for r in self.records("generating")], ["ok"] * 4)

    def test_the_numbers_are_a_sweeps(self):
        bb.run(1, "train", self.config, f"output={self.folder}/seen", *self.keys, "eval.every_steps=4")
        sweep = self.folder / "sweep.yaml"
        sweep.write_text(json.dumps({
            "models": [str(self.folder / "seen")], "lengths": [16, 64], "runtime": {"dtype": "float64"},
            "rope": {"own": {}, "plain": {"type": "default", "resonance": False}},
            "data": {"validation": [{"path": str(self.folder / "train.jsonl")}]},
            "tasks": [{"task": "perplexity", "window": "blocks"}, {"task": "posgen", "train_length": 16, "count": 20, "seed": 1}],
            "output": str(self.folder / "sweep")}))
        bb.run(1, "sweep", sweep)
        key = lambda r: (r["step"], r["rope_name"], r["length"], r["task"])
        inside = {key(r): r["metrics"] for r in self.records("seen")}
        outside = {key(r): r["metrics"] for r in self.records("sweep")}
        self.assertEqual(inside, outside)
        self.assertEqual(len(inside), 3 * 2 * 2 * 2)
        page = (self.folder / "sweep/report.html").read_text()
        self.assertTrue("by position in equal parts, 64 tokens" in page)

    def test_killed_and_resumed_every_evaluation_is_there_once(self):
        output = self.folder / "killed"
        process = bb.start(1, "train", self.config, f"output={output}", *self.keys, "eval.every_steps=2", "train.max_steps=40")
        bb.wait_for_steps(output, 17, process)
        bb.kill_all(process)
        bb.run(1, "train", self.config, f"output={output}", *self.keys, "eval.every_steps=2", "train.max_steps=40")
        steps = [r["step"] for r in self.records("killed")]
        self.assertEqual(steps, sorted(steps))
        self.assertEqual({s: steps.count(s) for s in steps}, {s: 8 for s in range(2, 41, 2)})

    def test_a_signal_does_not_wait_for_evaluations(self):
        output = self.folder / "signal"
        process = bb.start(2, "train", self.config, f"output={output}", "parallel.context=2", *self.keys, "eval.every_steps=1",
                           "train.max_steps=4000")
        bb.wait_for_steps(output, 3, process)
        os.kill(bb.ranks_of(process)[1], signal.SIGUSR1)
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, 85)

    def test_rope_settings_are_read_as_a_runs(self):
        for setting, says in (("{x: {facto: 2}}", "rope.factor"), ("{x: 5}", "the setting x of eval.rope"),
                              ("[yarn]", "eval.rope"), ("{x: {type: yarn, factor: none}}", "rope.factor")):
            done = bb.run(1, "train", self.config, f"output={self.folder}/settings", "eval.at_end=true", f"eval.rope={setting}",
                          expect=64)
            self.assertIn(says, done.stderr)
        self.assertFalse((self.folder / "settings").exists())

    def test_mistakes_are_found_before_the_first_step(self):
        done = bb.run(1, "train", self.config, f"output={self.folder}/x", "eval.every_steps=2", expect=64)
        self.assertIn("data", done.stderr)
        done = bb.run(1, "train", self.config, f"output={self.folder}/x", "eval.every_steps=2", "eval.tasks=[{task: nonsense}]",
                      expect=64)
        self.assertIn("nonsense", done.stderr)
        self.assertFalse((self.folder / "x").exists())

    def test_a_failing_evaluation_is_recorded_and_training_goes_on(self):
        done = bb.run(1, "train", self.config, f"output={self.folder}/missing", "eval.at_end=true",
                      "eval.tasks=[{task: perplexity, data: [{path: nowhere.jsonl}]}]")
        self.assertLess(done.stderr.index("perplexity of eval will fail"), done.stderr.index("step 1/"), "said before it starts")
        (record,) = self.records("missing")
        self.assertEqual(record["status"], "failed")
        self.assertIn("nowhere.jsonl", record["error"])
        self.assertEqual(bb.metrics(self.folder / "missing")[-1]["step"], 12)
        done = bb.run(1, "train", self.config, f"output={self.folder}/incomplete", "eval.at_end=true", "train.max_steps=2",
                      f"data.validation=[{{path: {self.folder}/train.jsonl}}]", "eval.rope={own: {}, y: {type: linear}}")
        self.assertLess(done.stderr.index("setting y of eval.rope will fail"), done.stderr.index("step 1/"), done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
