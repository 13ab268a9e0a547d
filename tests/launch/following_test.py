"""The best checkpoint, early stopping and event files agree with evals.jsonl and metrics.jsonl."""

import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

try:
    from tensorboard.backend.event_processing import event_accumulator, event_file_loader
except ImportError:
    event_accumulator = None


class Following(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        # A few random rows are soon memorised: the loss on other rows falls, then rises.
        source = random.Random(1)
        for name, count in (("few", 4), ("others", 8)):
            rows = [[source.choice((1, 2, 3, source.randrange(22))) for _ in range(33)] for _ in range(count)]
            (cls.folder / f"{name}.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))
        cls.keys = [f"data.train=[{{path: {cls.folder}/few.jsonl}}]", f"data.validation=[{{path: {cls.folder}/others.jsonl}}]",
                    "train.lr_scheduler=constant", "train.learning_rate=1e-2", "train.warmup_steps=0", "eval.every_steps=2",
                    "checkpoint.keep=2"]
        cls.train("full", "train.max_steps=40", "checkpoint.every_steps=2")
        cls.losses = cls.evaluated("full")
        cls.best = min(cls.losses, key=cls.losses.get)
        assert 4 <= cls.best <= 30, cls.losses

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, name, *keys, fresh=True, expect=0, ranks=1):
        if fresh:
            shutil.rmtree(cls.folder / name, ignore_errors=True)
        return bb.run(ranks, "train", cls.config, *cls.keys, *keys, f"output={cls.folder}/{name}", expect=expect)

    @classmethod
    def evaluated(cls, name):
        records = [json.loads(line) for line in (cls.folder / name / "evals.jsonl").read_text().splitlines()]
        return {record["step"]: record["metrics"]["loss"] for record in records}

    def checkpoints(self, name):
        return sorted(int(path.name[5:]) for path in (self.folder / name / "checkpoints").glob("step-*"))

    def test_the_best_stays_besides_the_newest(self):
        self.assertNotIn(self.best, self.checkpoints("full"), "the control: without the key it has gone")
        for ranks, layout in ((1, []), (2, ["parallel.context=2"])):
            with self.subTest(ranks=ranks):
                self.train("kept", "train.max_steps=40", "checkpoint.every_steps=2", "checkpoint.best={metric: validation.loss}", *layout, ranks=ranks)
                self.assertEqual(self.checkpoints("kept"), [self.best, 38, 40])
                self.assertEqual((self.folder / "kept/checkpoints/best").read_text(), f"step-{self.best:08}\n")
                bb.run(1, "inspect", self.folder / f"kept/checkpoints/step-{self.best:08}")
        # A schedule that never saves at the best step: the step is saved because it is the best.
        self.train("rare", "train.max_steps=40", "checkpoint.every_steps=39", "checkpoint.best.metric=validation.loss")
        self.assertIn(self.best, self.checkpoints("rare"))
        manifest = json.loads((self.folder / "rare/checkpoints/step-00000040/manifest.json").read_text())
        self.assertEqual(manifest["data"]["best"]["step"], self.best)
        self.assertEqual(manifest["data"]["best"]["value"], self.losses[self.best])

    def test_the_best_outlives_a_resume(self):
        best = "checkpoint.best.metric=validation.loss"
        self.train("cut", f"train.max_steps={self.best + 2}", "checkpoint.every_steps=2", best)
        self.train("cut", "train.max_steps=40", "checkpoint.every_steps=2", best, fresh=False)
        self.assertEqual(self.checkpoints("cut"), [self.best, 38, 40])
        self.assertEqual((self.folder / "cut/checkpoints/best").read_text(), f"step-{self.best:08}\n")
        self.assertEqual(self.evaluated("cut"), self.losses)
        # Killed between two saves, after the best step.
        shutil.rmtree(self.folder / "killed", ignore_errors=True)
        process = bb.start(1, "train", self.config, *self.keys, "train.max_steps=4000", "checkpoint.every_steps=~", best, f"output={self.folder}/killed")
        bb.wait_for_steps(self.folder / "killed", self.best + 5, process)
        bb.kill_all(process)
        process.stdout.close(), process.stderr.close()
        self.train("killed", "train.max_steps=40", "checkpoint.every_steps=~", best, fresh=False)
        self.assertEqual(self.evaluated("killed"), self.losses)
        self.assertIn(self.best, self.checkpoints("killed"))

    def stop_step(self, patience, min_delta=0.0):
        mark, without = math.inf, 0
        for step, loss in sorted(self.losses.items()):
            if mark - loss > min_delta:
                mark, without = loss, 0
            else:
                without += 1
            if without == patience:
                return step
        return 40

    def test_it_stops_when_patience_ends(self):
        for patience, min_delta in ((3, 0), (2, 0), (3, 0.05)):
            expected = self.stop_step(patience, min_delta)
            self.assertLess(expected, 40)
            keys = ["train.max_steps=40", f"train.early_stopping={{patience: {patience}, min_delta: {min_delta}}}"]
            done = self.train("early", *keys)
            self.assertEqual(len(bb.metrics(self.folder / "early")), expected, (patience, min_delta))
            self.assertEqual(bb.raw_fields(self.folder / "early"), bb.raw_fields(self.folder / "full")[:expected])
            self.assertIn("validation.loss has not got better in", done.stderr)
            self.assertIn(expected, self.checkpoints("early"))
            self.assertTrue((self.folder / "early/ended").exists())
            again = self.train("early", *keys, fresh=False)
            self.assertEqual(len(bb.metrics(self.folder / "early")), expected, "the same command has nothing to do")
            self.assertIn("has not got better", again.stderr)
        self.assertNotEqual(self.stop_step(3, 0.05), self.stop_step(3, 0), "min_delta tells")
        # With more patience the run continues.
        self.train("early", "train.max_steps=40", "train.early_stopping={patience: 1000}", fresh=False)
        self.assertEqual(bb.raw_fields(self.folder / "early"), bb.raw_fields(self.folder / "full"))

    def test_patience_outlives_a_resume(self):
        expected = self.stop_step(4)
        for cut in (self.best + 2, self.best + 3):  # at an evaluation, and between two
            self.train("cut-early", f"train.max_steps={cut}", "train.early_stopping.patience=4")
            self.train("cut-early", "train.max_steps=40", "train.early_stopping.patience=4", fresh=False, ranks=2)
            self.assertEqual(len(bb.metrics(self.folder / "cut-early")), expected)

    def test_what_is_never_measured_is_refused(self):
        for keys in (["checkpoint.best.metric=nothing.loss"], ["checkpoint.best.metric=validation.los", "train.early_stopping.patience=1"], ["checkpoint.best.metric=loss"], ["checkpoint.best.metric=validation.loss", "eval.every_steps=~"],
                     ["train.early_stopping.patience=2", "data.validation=[]"]):
            done = self.train("refused", *keys, expect=64)
            self.assertRegex(done.stderr, "checkpoint.best.metric|data.validation")
            self.assertFalse((self.folder / "refused").exists())

    def test_keys_that_change_nothing_are_named(self):
        for keys, says in ((["train.longce.context=8"], "train.longce.context has no effect without train.loss longce"),
                           (["train.spike.window=20"], "train.spike.window has no effect without"),
                           (["train.early_stopping.min_delta=0.1"], "train.early_stopping.min_delta has no effect without"),
                           (["train.decay_ratio=0.5"], "train.decay_ratio has no effect without"),
                           (["train.min_lr_ratio=0.1"], "train.min_lr_ratio has no effect with train.lr_scheduler constant"),
                           (["eval.every_steps=~", "eval.lengths=[16]"], "eval.lengths has no effect without a schedule"),
                           (["eval.every_steps=50"], "eval.every_steps has no effect within train.max_steps 2"),
                           (["rope.type=yarn", "rope.factor=2", "rope.mscale=0.7"], "rope.mscale has no effect without mscale_all_dim"),
                           (["rope.type=yarn", "rope.factor=2", "rope.mscale=0.7", "rope.mscale_all_dim=1", "rope.attention_factor=1"],
                            "rope.mscale has no effect beside attention_factor"),
                           (["rope.type=none", "rope.resonance=true"], "rope.resonance has no effect with rope.type none"),
                           (["runtime.tune=true"], "runtime.tune has no effect on cpu"),
                           (["train.warmup_steps=3"], "the warm-up of 3 steps is longer than the 2 steps of the run")):
            self.assertIn(says, self.train("unused", "train.max_steps=2", *keys).stderr)
        # A resolved configuration lists every key, and none of them was asked for.
        again = bb.run(1, "train", self.folder / "full/config.yaml", f"output={self.folder}/unused2", "train.max_steps=2")
        self.assertNotIn("no effect", again.stderr)
        self.assertNotIn("no effect", self.train("unused", "train.max_steps=2", "train.spike={window: 20, factor: 3}", "eval.at_end=true").stderr)

    @unittest.skipIf(event_accumulator is None, "tensorboard is not installed (tests/requirements.txt)")
    def test_tensorboard_reads_the_events(self):
        shutil.rmtree(self.folder / "events", ignore_errors=True)
        keys = [*self.keys, "runtime.tensorboard=true", "checkpoint.every_steps=5", f"output={self.folder}/events",
                f"data.train=[{{path: {self.folder}/few.jsonl, name: few, weight: 1}}]"]
        process = bb.start(1, "train", self.config, *keys, "train.max_steps=4000")
        bb.wait_for_steps(self.folder / "events", 8, process)
        bb.kill_all(process)
        process.stdout.close(), process.stderr.close()
        bb.run(1, "train", self.config, *keys, "train.max_steps=12")
        self.assertEqual(len(list((self.folder / "events").glob("events.out.tfevents.*"))), 2)
        found = event_accumulator.EventAccumulator(str(self.folder / "events"), size_guidance={event_accumulator.SCALARS: 0})
        found.Reload()
        records = bb.metrics(self.folder / "events")
        self.assertEqual(len(records), 12)
        for tag, key in (("train/loss", "loss"), ("train/grad_norm", "grad_norm"), ("train/lr", "lr"), ("train/tokens_total", "tokens_total"),
                         ("speed/tokens_per_second", "tokens_per_second"), ("memory/peak_bytes", "peak_memory_bytes")):
            scalars = found.Scalars(tag)
            self.assertEqual([scalar.step for scalar in scalars], list(range(1, 13)), f"{tag}: every step once, the tail that was cut forgotten")
            for scalar, record in zip(scalars, records):
                self.assertAlmostEqual(scalar.value / record[key], 1, places=6)
                self.assertAlmostEqual(scalar.wall_time, record["time"], places=5)
        self.assertEqual([scalar.value for scalar in found.Scalars("tokens_by_source/few")], [record["tokens"] for record in records])
        losses = self.evaluated("events")
        self.assertEqual([scalar.step for scalar in found.Scalars("eval/perplexity/loss/33")], sorted(losses))
        for scalar in found.Scalars("eval/perplexity/loss/33"):
            self.assertAlmostEqual(scalar.value, losses[scalar.step], places=5)

    @unittest.skipIf(event_accumulator is None, "tensorboard is not installed (tests/requirements.txt)")
    def test_tensorboard_checks_the_checksums(self):
        """The control of the test above: a flipped bit anywhere in a record stops the reader there."""
        self.train("sum", "runtime.tensorboard=true", "train.max_steps=3", "eval.every_steps=~")
        path = next((self.folder / "sum").glob("events.out.tfevents.*"))
        whole = path.read_bytes()
        count = len(list(event_file_loader.RawEventFileLoader(str(path)).Load()))
        self.assertEqual(count, 5)
        source = random.Random(1)
        for at in source.sample(range(len(whole)), 20):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
            try:
                read = len(list(event_file_loader.RawEventFileLoader(str(path)).Load()))
            except Exception:
                read = -1
            self.assertLess(read, count, at)

    def test_watch_follows_to_the_end(self):
        shutil.rmtree(self.folder / "seen", ignore_errors=True)
        run = bb.start(2, "train", self.config, *self.keys, "train.max_steps=30", "parallel.data=2", "train.micro_batch_size=2", f"output={self.folder}/seen")
        bb.wait_for_steps(self.folder / "seen", 1, run)
        done = bb.run(1, "watch", self.folder / "seen", "every=0.1s")
        self.assertEqual(run.wait(timeout=120), 0, run.stderr.read())
        run.stdout.close(), run.stderr.close()
        self.assertRegex(done.stdout, "loss [0-9.]+  [▁▂▃▄▅▆▇█]+\n")
        self.assertRegex(done.stdout, r"memory  0: \d+ MiB  1: \d+ MiB\n")
        last = done.stdout[done.stdout.rfind("seen  step"):]
        self.assertTrue(last.startswith("seen  step 30/30  ended\n"), last)
        self.assertIn("after step 30: perplexity own 33:  loss", last)

    def test_watch_rewrites_the_page_and_leaves_a_dead_run(self):
        shutil.rmtree(self.folder / "dead", ignore_errors=True)
        run = bb.start(1, "train", self.config, *self.keys, "train.max_steps=1000000", "eval.every_steps=~", f"output={self.folder}/dead")
        bb.wait_for_steps(self.folder / "dead", 3, run)
        watch = bb.start(1, "watch", self.folder / "dead", "patience=2s", "every=0.1s", "page_every=0.1s")
        page = self.folder / "dead/report.html"
        seen = set()
        for _ in range(1200):  # two pages of a run that continues
            if page.exists():
                seen.add(page.stat().st_mtime_ns)
            if len(seen) >= 2:
                break
            time.sleep(0.05)
        self.assertIsNone(run.poll())
        self.assertIsNone(watch.poll(), "it stays while the run is at work")
        self.assertGreaterEqual(len(seen), 2)
        bb.kill_all(run)
        run.stdout.close(), run.stderr.close()
        output, errors = watch.communicate(timeout=120)
        self.assertEqual(watch.returncode, 0, errors)
        self.assertRegex(output, r"step \d+/1000000  \w+ \w+ left|step \d+/1000000  \w+ left")
        self.assertIn("not at work: it left no word that it ended", output)
        bb.run(1, "watch", self.folder / "nothing", expect=66)
        (self.folder / "hollow").mkdir()
        bb.run(1, "watch", self.folder / "hollow", expect=66)
        bb.run(1, "watch", expect=64)

    def test_no_event_file_without_the_key(self):
        self.assertEqual(list((self.folder / "full").glob("events.out.tfevents.*")), [])


if __name__ == "__main__":
    unittest.main()
