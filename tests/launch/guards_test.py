"""A run's folder and its checkpoints when something goes wrong around them: refused starts, two writers, divergence, spikes,
evaluations interrupted by a signal, watching sweeps. Black box."""

import hashlib
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb


def look(folder):
    """Every file below the folder with a hash of its bytes."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(pathlib.Path(folder).rglob("*")) if p.is_file()}


class Guards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        bb.run(1, "train", cls.config)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def steps(self, output):
        return sorted(p.name for p in (output / "checkpoints").glob("step-*"))

    def test_a_refused_start_changes_nothing(self):
        output = self.folder / "finished"
        shutil.copytree(self.folder / "run", output)
        before = look(output)
        for code, arguments in ((64, ["train.offload=checkpoints"]), (64, ["eval.every_steps=2", "eval.tasks=[{task: nothing}]"]),
                                (66, [f"data.train=[{{path: {self.folder}/none.jsonl}}]"]), (64, ["model.hidden_size=48"]),
                                (64, ["checkpoint.resume=never"])):
            bb.run(1, "train", self.config, f"output={output}", "train.max_steps=20", *arguments, expect=code)
            self.assertEqual(look(output), before, arguments)
        # A damaged log of a run is also found before anything is written.
        with open(output / "metrics.jsonl", "a") as file:
            file.write("no record\n")
        before = look(output)
        done = bb.run(1, "train", self.config, f"output={output}", "train.max_steps=20", expect=65)
        self.assertIn("metrics.jsonl:13", done.stderr)
        self.assertEqual(look(output), before)

    def test_a_refused_fresh_start_leaves_no_folder(self):
        output = self.folder / "deep" / "fresh"
        bb.run(1, "train", self.config, f"output={output}", "train.offload=all", expect=64)
        self.assertFalse((self.folder / "deep").exists())

    def test_one_writer_at_a_time(self):
        for ranks in (1, 2):
            output = self.folder / f"two-{ranks}"
            arguments = ["train", self.config, f"output={output}", "train.max_steps=100000", "train.lr_scheduler=constant",
                         f"parallel.context={ranks}"]
            first = bb.start(ranks, *arguments)
            bb.wait_for_steps(output, 2, first)
            second = bb.run(ranks, *arguments, "train.learning_rate=1e-3", expect=73)
            self.assertIn("another run is at work in this folder", second.stderr)
            os.kill(bb.ranks_of(first)[0], signal.SIGUSR1)
            first.communicate(timeout=60)
            self.assertEqual(first.returncode, 85)
            steps = [r["step"] for r in bb.metrics(output)]
            self.assertEqual(steps, list(range(1, len(steps) + 1)))

    def test_a_folder_that_is_taken_away_is_not_replaced(self):
        """Moved, removed, or its name given to another run: the run ends at its next checkpoint and writes nothing there."""
        keys = ["train.max_steps=100000", "train.lr_scheduler=constant", "checkpoint.every_steps=50"]
        for how in ("moved", "removed", "replaced"):
            output, aside = self.folder / f"away-{how}", self.folder / f"aside-{how}"
            process = bb.start(1, "train", self.config, f"output={output}", *keys)
            bb.wait_for_steps(output, 2, process)
            os.rename(output, aside)
            if how == "removed":
                shutil.rmtree(aside)
            if how == "replaced":
                shutil.copytree(self.folder / "run", output)
                (output / ".running").write_text("elsewhere 1 1\n")
                before = look(output)
            stderr = process.communicate(timeout=120)[1]
            self.assertEqual(process.returncode, 73, (how, stderr))
            self.assertIn("moved, removed or replaced", stderr)
            if how == "replaced":
                self.assertEqual(look(output), before)
            else:
                self.assertFalse((output / "ended").exists())
                self.assertEqual(self.steps(output), [])
            if how == "moved":
                self.assertFalse((aside / "ended").exists())
                self.assertGreater(len(bb.metrics(aside)), 2)

    def test_pipes_in_a_folder_are_not_waited_for(self):
        for name in ("metrics.jsonl", "evals.jsonl", "log.txt"):
            output = self.folder / f"pipe-{name}"
            shutil.copytree(self.folder / "run", output)
            (output / name).unlink(missing_ok=True)
            os.mkfifo(output / name)
            done = bb.run(1, "train", self.config, f"output={output}", "train.max_steps=14", expect=None, timeout=60)
            self.assertIn(done.returncode, (65, 73), done.stderr)
            self.assertIn(name, done.stderr)

    def test_a_killed_run_leaves_no_lock_behind(self):
        output = self.folder / "killed"
        process = bb.start(1, "train", self.config, f"output={output}", "train.max_steps=100000", "train.lr_scheduler=constant",
                           "checkpoint.every_steps=1")
        bb.wait_for_steps(output, 3, process)
        bb.kill_all(process)
        at = len(bb.metrics(output)) + 2
        bb.run(1, "train", self.config, f"output={output}", f"train.max_steps={at}", "train.lr_scheduler=constant")

    def test_after_divergence_healthy_checkpoints_stand(self):
        output = self.folder / "diverged"
        common = [self.config, f"output={output}", "train.lr_scheduler=constant", "train.max_grad_norm=null", "checkpoint.every_steps=1"]
        bb.run(1, "train", *common, "train.max_steps=4")
        done = bb.run(1, "train", *common, "train.max_steps=30", "train.learning_rate=1e300", expect=76)
        self.assertIn("set aside", done.stderr)
        self.assertIn("exit code 76", (output / "ended").read_text())
        self.assertIn("step-00000004", self.steps(output))
        bb.run(1, "train", *common, "train.max_steps=8", "train.learning_rate=1e-3")
        self.assertTrue(all(r["loss"] is not None for r in bb.metrics(output)))

    def test_evaluations_cut_off_by_a_signal_are_made_up(self):
        output = self.folder / "made-up"
        shutil.copy(self.folder / "train.jsonl", self.folder / "val.jsonl")
        arguments = ["train", self.config, f"output={output}", f"data.validation=[{{path: {self.folder}/val.jsonl}}]",
                     "eval.every_steps=3", "eval.lengths=[8,12,16,20,24]", "eval.at_end=true", "train.max_steps=7",
                     "eval.tasks=[{task: perplexity, window: sliding, stride: 1}]", "train.lr_scheduler=constant"]
        starts = 0
        while True:
            starts += 1
            process = bb.start(1, *arguments)
            records = output / "evals.jsonl"
            had = records.read_text().count("\n") if records.exists() else 0
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if records.exists() and records.read_text().count("\n") > had:
                    process.send_signal(signal.SIGUSR1)
                    break
                time.sleep(0.001)
            process.communicate(timeout=60)
            self.assertIn(process.returncode, (0, 85))
            if process.returncode == 0:
                break
            self.assertLess(starts, 60)
        found = [(r["step"], r["length"]) for r in map(json.loads, records.read_text().splitlines())]
        self.assertEqual(sorted(found), [(step, length) for step in (3, 6, 7) for length in (8, 12, 16, 20, 24)])
        self.assertGreater(starts, 1, "the signal came too late to say anything")

    def test_a_spike_is_skipped_or_ends_the_run_or_is_gone_back_over(self):
        """A single batch of different documents causes the spike."""
        data = self.folder / "spike.jsonl"
        lines = [json.dumps({"tokens": [1] * 33}) for _ in range(64)]
        for i in range(40, 44):  # step 11 (0-based 10) of four sequences
            lines[i] = json.dumps({"tokens": [1, 17, 3, 12, 9, 4, 20, 5] * 4 + [2]})
        data.write_text("\n".join(lines) + "\n")
        common = ["train", self.config, f"data.train=[{{path: {data}}}]", "data.shuffle=false", "train.lr_scheduler=constant",
                  "train.learning_rate=1e-2", "train.max_steps=15", "checkpoint.every_steps=4", "train.spike.window=4"]
        skip = self.folder / "skip"
        bb.run(1, *common, f"output={skip}", "train.spike.factor=3")
        records = bb.metrics(skip)
        self.assertEqual([r["step"] for r in records if "spike" in r], [11])
        self.assertIsNone(records[10]["grad_norm"])
        # An interrupted run makes the same decisions.
        again = self.folder / "skip-again"
        bb.run(1, *common, f"output={again}", "train.spike.factor=3", "train.max_steps=10")
        bb.run(1, *common, f"output={again}", "train.spike.factor=3")
        self.assertEqual(bb.raw_fields(again), bb.raw_fields(skip))
        stop = bb.run(1, *common, f"output={self.folder}/stop", "train.spike={action: stop}", expect=76)
        self.assertIn("the loss of step 11", stop.stderr)
        back = self.folder / "back"
        done = bb.run(1, *common, f"output={back}", "train.spike={action: rollback, factor: 3}")
        self.assertIn("back from step 11", done.stderr)
        records = bb.metrics(back)
        self.assertEqual([r["step"] for r in records], list(range(1, 16)))
        self.assertTrue(all(r["loss"] < 1 for r in records[10:]), "the bad sequences were passed over")
        plain = self.folder / "no-guard"
        bb.run(1, *common, f"output={plain}")
        self.assertGreater(bb.metrics(plain)[10]["loss"], 3)
        self.assertIsNotNone(bb.metrics(plain)[10]["grad_norm"])

    def test_verify_takes_a_step_without_targets_as_training_does(self):
        data = self.folder / "masked.jsonl"
        data.write_text("".join(json.dumps({"tokens": [1] * 33, "loss_mask": [0] * 33}) + "\n" for _ in range(8)))
        for ranks, layout in ((1, []), (2, ["parallel.context=2"])):
            bb.run(ranks, "verify", self.config, f"data.train=[{{path: {data}}}]", f"output={self.folder}/verified", *layout)

    def test_labels_are_a_mask_or_refused(self):
        def tokenized(row):
            (self.folder / "labels.jsonl").write_text(json.dumps(row) + "\n")
            return bb.run(1, "tokenize", self.folder / "labels.jsonl", f"output={self.folder}/labels.h5", "vocab_size=22", expect=None)
        self.assertEqual(tokenized({"tokens": [1, 2, 3], "labels": [-100, -100, 3]}).returncode, 0)
        data = self.folder / "as-labels.jsonl"
        rows = [json.loads(line) for line in (self.folder / "train.jsonl").read_text().splitlines()]
        data.write_text("".join(json.dumps({"tokens": r["tokens"], "labels": [t if m else -100 for t, m in zip(r["tokens"], r["loss_mask"])]})
                                + "\n" for r in rows))
        bb.run(1, "train", self.config, f"data.train=[{{path: {data}}}]", f"output={self.folder}/labels")
        self.assertEqual(bb.raw_fields(self.folder / "labels"), bb.raw_fields(self.folder / "run"))
        for row in ({"tokens": [1, 2, 3], "labels": [2, 3, -100]}, {"tokens": [1, 2, 3], "labels": [-100, 2]},
                    {"tokens": [1, 2], "labels": [-100, 2], "loss_mask": [0, 1]}, {"tokens": [1, 2], "labels": "none"}):
            done = tokenized(row)
            self.assertEqual(done.returncode, 65, row)
            self.assertIn("labels.jsonl:1", done.stderr)

    def test_columns_of_other_tokenised_rows_are_not_left_unread(self):
        """Masks under other names, padding, or several documents in a row would be trained wrongly without notice."""
        def tokenized(row):
            (self.folder / "columns.jsonl").write_text(json.dumps(row) + "\n")
            return bb.run(1, "tokenize", self.folder / "columns.jsonl", f"output={self.folder}/columns.h5", "vocab_size=22", expect=None)
        tokens = {"tokens": [1, 2, 3]}
        for fine in ({"attention_mask": [1, 1, 1]}, {"position_ids": [0, 1, 2]}, {"completion_mask": None}, {"source": "x"}):
            self.assertEqual(tokenized({**tokens, **fine}).returncode, 0, fine)
        for column, words in (({"attention_mask": [0, 1, 1]}, ["attention_mask", "padding"]), ({"attention_mask": [1, 1]}, ["attention_mask"]),
                              ({"attention_mask": 1}, ["attention_mask"]), ({"position_ids": [0, 1, 0]}, ["position_ids", "number 2"]),
                              ({"completion_mask": [0, 1, 1]}, ["completion_mask", "loss_mask"]),
                              ({"assistant_masks": [0, 1, 1]}, ["assistant_masks", "loss_mask"])):
            done = tokenized({**tokens, **column})
            self.assertEqual(done.returncode, 65, column)
            for word in [*words, "columns.jsonl:1"]:
                self.assertIn(word, done.stderr)
        done = tokenized({"input_ids": [1, 2, 3]})
        self.assertEqual(done.returncode, 65)
        self.assertIn("rename `input_ids` to `tokens`", done.stderr)

    def test_an_empty_file_among_others_is_named(self):
        (self.folder / "empty.jsonl").write_text("\n  \n")
        for order in (["empty", "train"], ["train", "empty"]):
            paths = ", ".join(f"{{path: {self.folder}/{name}.jsonl}}" for name in order)
            done = bb.run(1, "train", self.config, f"output={self.folder}/x", f"data.train=[{paths}]", expect=65)
            self.assertIn("empty.jsonl", done.stderr)

    def test_validation_counts_what_its_mask_counts(self):
        """The same sums as from `score`; a weight of two counts twice."""
        rows = [json.loads(line) for line in (self.folder / "train.jsonl").read_text().splitlines()][:5]
        for row in rows:
            row["loss_mask"] = [0] * 10 + [2] * 10 + [1] * (len(row["tokens"]) - 20)
        data, scores = self.folder / "masked-validation.jsonl", self.folder / "masked-scores.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        bb.run(1, "score", f"model={self.folder}/run", f"input={data}", f"output={scores}", "runtime.dtype=float64")
        total = weight = count = 0
        for row, line in zip(rows, scores.read_text().splitlines()):
            for w, logprob in list(zip(row["loss_mask"], json.loads(line)["logprobs"]))[1:]:
                total, weight, count = total - w * logprob, weight + w, count + (w > 0)
        for ranks, layout in ((1, []), (2, ["parallel.context=2"])):
            found = json.loads(bb.run(ranks, "eval", f"model={self.folder}/run", "length=64", "runtime.dtype=float64", *layout,
                                      f"task={{task: perplexity, window: full, data: [{{path: {data}}}]}}").stdout)["metrics"]
            self.assertEqual(found["tokens"], count)
            self.assertTrue(math.isclose(found["loss"], total / weight, rel_tol=1e-10))

    def sweep(self, name, **changes):
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"models": [str(self.folder / "run")], "lengths": [16],
                                    "tasks": [{"task": "posgen", "train_length": 8, "count": 5}],
                                    "runtime": {"dtype": "float64"}, "output": str(self.folder / name), **changes}))
        return path

    def test_watch_names_a_line_that_is_no_record(self):
        run = self.folder / "watched"
        run.mkdir()
        (run / "ended").write_text("2\n")
        metrics = run / "metrics.jsonl"
        for line in ("5", "{", "\u00ff"):
            metrics.write_text('{"step": 1, "loss": 2.0}\n' + line + "\n")
            self.assertIn("watched/metrics.jsonl:2", bb.run(1, "watch", run, expect=65).stderr)
        # Another program's keys and types are no reason to end.
        metrics.write_text('{"step": "a", "loss": 2.0}\n{"step": 2, "loss": 2.0}\n')
        self.assertIn("step 2", bb.run(1, "watch", run).stdout)

    def test_watch_reads_again_what_was_cut_and_grew(self):
        """Between two reads the run was resumed from an earlier step, and its file is longer than before."""
        run = self.folder / "regrown"
        run.mkdir()
        metrics = run / "metrics.jsonl"
        record = lambda step, more="": json.dumps({"step": step, "loss": 2.0, "more": more}) + "\n"
        metrics.write_text("".join(record(step) for step in range(1, 6)))
        process = bb.start(1, "watch", run, "every=0.05s", "patience=60s")
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertIn("step 5", process.stdout.readline())
        fresh = run / "fresh"
        fresh.write_text(record(1) + "".join(record(step, "a longer record") for step in range(2, 9)))
        os.replace(fresh, metrics)
        (run / "ended").write_text("8\n")
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertIn("step 8", out)

    def test_checkpoints_takes_known_words_and_steps(self):
        for word in ("newset", "[]", "[-4]", "[all]", "4", "{a: 1}"):
            done = bb.run(1, "sweep", self.sweep("words"), f"checkpoints={word}", expect=64)
            self.assertIn("checkpoints", done.stderr)
        bb.run(1, "sweep", self.sweep("words"), "checkpoints=[12]")

    def test_a_watched_run_that_ended_badly_or_goes_away_is_not_waited_for(self):
        bad = self.folder / "bad"
        bb.run(1, "train", self.config, f"output={bad}", "train.learning_rate=1e300", "train.max_grad_norm=null",
               "train.max_steps=40", "checkpoint.every_steps=100", expect=76)
        bb.run(1, "sweep", self.sweep("watch-bad", models=[str(bad)], watch=True), expect=66, timeout=60)
        # The run is removed while it is watched, after one checkpoint was evaluated.
        gone = self.folder / "gone"
        shutil.copytree(self.folder / "run", gone)
        (gone / "ended").unlink()
        process = bb.start(1, "sweep", self.sweep("watch-gone", models=[str(gone)], watch=True))
        records = self.folder / "watch-gone/evals.jsonl"
        deadline = time.monotonic() + 60
        while (not records.exists() or records.read_text().count("\n") < 3) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertIsNone(process.poll(), "it still waits")
        shutil.rmtree(gone)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 0, errors)
        self.assertIn("was removed", errors)

    def test_a_watched_run_that_has_not_begun_is_waited_for_but_not_for_ever(self):
        for name, make in (("nothing", lambda p: None), ("folder", lambda p: p.mkdir())):
            late = self.folder / f"late-{name}"
            make(late)
            process = bb.start(1, "sweep", self.sweep(f"watch-{name}", models=[str(late)], watch=True))
            time.sleep(3)
            self.assertIsNone(process.poll(), name)
            bb.run(1, "train", self.config, f"output={late}", "train.max_steps=4")
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, name)
            self.assertEqual((self.folder / f"watch-{name}/evals.jsonl").read_text().count("\n"), 1)
        never = bb.run(1, "sweep", self.sweep("watch-never", models=[str(self.folder / "never")], watch=True),
                       "watch_patience=1s", expect=66, timeout=60)
        self.assertIn("no longer watched", never.stderr)

    def test_a_point_says_what_it_took(self):
        data = self.folder / "long.jsonl"
        data.write_text("".join(json.dumps({"tokens": [i % 22 for i in range(1500)]}) + "\n" for _ in range(30)))
        begin = time.monotonic()
        bb.run(1, "sweep", self.sweep("seconds", lengths=[1500], tasks=[{"task": "perplexity", "data": [{"path": str(data)}]}]),
               "checkpoints=newest")
        took = time.monotonic() - begin
        record = json.loads((self.folder / "seconds/evals.jsonl").read_text())
        self.assertGreater(record["seconds"], 0.1 * took)

    def test_a_table_holds_no_formula(self):
        model = self.folder / "=cmd()"
        shutil.copytree(self.folder / "run", model)
        done = subprocess.run(bb.command(1, "sweep", self.sweep("formula", models=["=cmd()"], rope={"+own": {}}), "checkpoints=newest"),
                              cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        for line in (self.folder / "formula/table.csv").read_text().splitlines()[1:]:
            self.assertTrue(line.startswith("'=cmd()"), line)
            self.assertIn(",'+own,", line)
        page = (self.folder / "formula/report.html").read_text()
        self.assertIn("Content-Security-Policy", page)


if __name__ == "__main__":
    unittest.main()
