"""Interrupted training: killed, stopped by a signal, resumed on the same and on other layouts. Black box.
Acceptance A10 of the parallelism reference: a checkpoint of any layout resumes on any other."""

import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:  # gone, perhaps between opening and reading
        return False


class Resume(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        bb.run(1, "train", cls.config, f"output={cls.folder}/straight")
        bb.run(2, "train", cls.config, f"output={cls.folder}/straight2", "parallel.context=2")
        cls.straight = bb.raw_fields(cls.folder / "straight")
        cls.straight2 = bb.raw_fields(cls.folder / "straight2")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_learns(self):
        losses = [r["loss"] for r in bb.metrics(self.folder / "straight")]
        self.assertEqual(len(losses), 12)
        self.assertLess(losses[-1], losses[0])

    def test_a_run_that_has_ended_says_so(self):
        output = self.folder / "ended-before"
        first = bb.run(1, "train", self.config, f"output={output}").stderr
        again = bb.run(1, "train", self.config, f"output={output}").stderr
        self.assertNotIn("nothing was left to do", first)
        self.assertIn("nothing was left to do: the run has taken 12 of 12 steps", again)
        shorter = bb.run(1, "train", self.config, f"output={output}", "train.max_steps=6").stderr
        self.assertIn("12 of 6 steps", shorter)
        self.assertEqual(bb.raw_fields(output), self.straight)

    def test_killed_at_any_moment_gives_the_same_characters(self):
        chance = random.Random(1)
        for ranks, straight, extra in ((1, self.straight, []), (2, self.straight2, ["parallel.context=2"])):
            for attempt in range(2):
                output = self.folder / f"killed-{ranks}-{attempt}"
                process = bb.start(ranks, "train", self.config, f"output={output}", *extra)
                bb.wait_for_steps(output, 5 + attempt * 2, process)
                time.sleep(chance.random() * 0.02)
                if process.poll() is None:
                    bb.kill_all(process)
                bb.run(ranks, "train", self.config, f"output={output}", *extra)
                self.assertEqual(bb.raw_fields(output), straight, f"{ranks} ranks, attempt {attempt}")

    def test_other_layout_continues_within_rounding(self):
        layouts = {"tp2": (2, "parallel.tensor=2"), "cp2": (2, "parallel.context=2"),
                   "dp2": (2, "parallel.data=2", "train.micro_batch_size=2"),
                   "cp2tp2": (4, "parallel.context=2", "parallel.tensor=2"), "one": (1,), "tp4": (4, "parallel.tensor=4")}
        schedule = "train.lr_scheduler=constant"
        bb.run(1, "train", self.config, f"output={self.folder}/constant", schedule)
        straight = [r["loss"] for r in bb.metrics(self.folder / "constant")]
        for first, second in (("tp2", "cp2"), ("cp2", "tp2"), ("one", "cp2tp2"), ("cp2tp2", "dp2"), ("dp2", "tp4")):
            output = self.folder / f"{first}-{second}"
            for name, steps in ((first, 6), (second, 12)):
                ranks, *keys = layouts[name]
                bb.run(ranks, "train", self.config, f"output={output}", f"train.max_steps={steps}", schedule, *keys)
            again = [r["loss"] for r in bb.metrics(output)]
            self.assertEqual(len(again), 12)
            for a, b in zip(again, straight):
                self.assertAlmostEqual(a, b, delta=1e-9 * b, msg=f"{first} -> {second}")

    def test_signal_to_one_rank_stops_all_after_a_checkpoint(self):
        for number, to in ((signal.SIGUSR1, "rank"), (signal.SIGUSR2, "mpirun"), (signal.SIGTERM, "rank")):
            output = self.folder / f"signal-{number.name}"
            process = bb.start(2, "train", self.config, f"output={output}", "parallel.context=2", "train.max_steps=4000")
            bb.wait_for_steps(output, 5, process)
            os.kill(bb.ranks_of(process)[1] if to == "rank" else process.pid, number)
            process.communicate(timeout=30)
            self.assertEqual(process.returncode, 85, number.name)
            last = bb.metrics(output)[-1]["step"]
            self.assertTrue((output / f"checkpoints/step-{last:08d}/manifest.json").exists(), number.name)

    def test_a_killed_rank_takes_the_others_along(self):
        for victim in (0, 1):
            output = self.folder / f"victim-{victim}"
            process = bb.start(2, "train", self.config, f"output={output}", "parallel.context=2",
                               "train.max_steps=100000")
            bb.wait_for_steps(output, 3, process)
            pids = bb.ranks_of(process)
            os.kill(pids[victim], signal.SIGKILL)
            begin = time.monotonic()
            process.communicate(timeout=20)
            self.assertLess(time.monotonic() - begin, 10)
            self.assertNotEqual(process.returncode, 0)
            for pid in pids:
                # mpirun kills its ranks and exits without waiting: a rank may still be freeing its memory (seen for 32 ms).
                deadline = time.monotonic() + 2
                while is_running(pid) and time.monotonic() < deadline:
                    time.sleep(0.01)
                self.assertFalse(is_running(pid), "a rank outlived the job")

    def test_an_error_of_one_rank_alone_takes_the_others_along(self):
        output = self.folder / "one-fails"
        begin = time.monotonic()
        done = bb.run(2, "train", self.config, f"output={output}", "parallel.context=2", expect=74,
                      environment={"CARILLON_TEST_FAIL": "tensors_synced:1:io"})
        self.assertLess(time.monotonic() - begin, 60)
        self.assertIn("carillon: error: made to fail", done.stderr)
        self.assertIn("[rank 1]", done.stderr)
        bb.run(2, "train", self.config, f"output={output}", "parallel.context=2")
        self.assertEqual(bb.raw_fields(output), self.straight2)

    def test_killed_while_saving_loses_no_committed_step(self):
        for point in ("folder_made", "tensors_written:1", "tensors_synced", "manifest_written", "committed"):
            output = self.folder / f"saving-{point.replace(':', '-')}"
            bb.run(2, "train", self.config, f"output={output}", "parallel.context=2", "train.max_steps=4",
                   "train.lr_scheduler=constant")
            bb.run(2, "train", self.config, f"output={output}", "parallel.context=2", "train.lr_scheduler=constant", expect=None,
                   environment={"CARILLON_TEST_FAIL": point})
            self.assertTrue((output / "checkpoints/step-00000004/manifest.json").exists(), point)
            bb.run(2, "train", self.config, f"output={output}", "parallel.context=2", "train.lr_scheduler=constant")
            self.assertEqual([r["step"] for r in bb.metrics(output)], list(range(1, 13)), point)

    def test_checkpoints_beside_steps_are_the_same(self):
        beside = ["checkpoint.async=true", "checkpoint.every_steps=1"]
        for ranks, straight, *layout in ((1, self.straight), (2, self.straight2, "parallel.context=2")):
            output = self.folder / f"beside-{ranks}"
            done = bb.run(ranks, "train", self.config, f"output={output}", *layout, *beside)
            self.assertIn("training waited", done.stderr)
            self.assertEqual(bb.raw_fields(output), straight)
            same = self.folder / ("straight" if ranks == 1 else "straight2")
            tensors = [json.loads((run / "checkpoints/step-00000012/manifest.json").read_text())["tensors"]
                       for run in (output, same)]
            self.assertEqual(*tensors)
            # A checkpoint that was written asynchronously is resumed.
            newest = output / "checkpoints/step-00000012"
            shutil.rmtree(newest)
            self.assertTrue(list(output.glob("checkpoints/step-*/manifest.json")))
            bb.run(ranks, "train", self.config, f"output={output}", *layout, *beside)
            self.assertEqual(bb.raw_fields(output), straight)
            self.assertEqual(json.loads((newest / "manifest.json").read_text())["tensors"], tensors[1])

    def test_the_next_update_waits_for_the_copy(self):
        tensors = []
        for name, beside, slow in (("waited", "false", ""), ("beside", "true", "copying:0:slow")):
            output = self.folder / f"copied-{name}"
            bb.run(1, "train", self.config, f"output={output}", "train.max_steps=4", "checkpoint.every_steps=1",
                   f"checkpoint.async={beside}", environment={"CARILLON_TEST_FAIL": slow})
            # Step 4, the last one, is always saved synchronously.
            tensors.append(json.loads((output / "checkpoints/step-00000003/manifest.json").read_text())["tensors"])
        self.assertEqual(*tensors)

    def test_a_signal_while_a_checkpoint_is_written_beside_steps(self):
        for number in (signal.SIGUSR1, signal.SIGTERM):
            output = self.folder / f"beside-{number.name}"
            process = bb.start(2, "train", self.config, f"output={output}", "parallel.context=2", "train.max_steps=4000",
                               "checkpoint.async=true", "checkpoint.every_steps=1")
            bb.wait_for_steps(output, 5, process)
            os.kill(bb.ranks_of(process)[1], number)
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, 85, number.name)
            last = bb.metrics(output)[-1]["step"]
            self.assertTrue((output / f"checkpoints/step-{last:08d}/manifest.json").exists(), number.name)

    def test_a_late_error_of_one_rank_ends_all(self):
        output = self.folder / "late"
        arguments = ["train", self.config, f"output={output}", "parallel.context=2", "checkpoint.async=true",
                     "checkpoint.every_steps=2"]
        done = bb.run(2, *arguments, expect=74, environment={"CARILLON_TEST_FAIL": "tensors_written:1:io"})
        self.assertIn("carillon: error: made to fail", done.stderr)
        self.assertEqual(list(output.glob("checkpoints/step-*")), [])
        bb.run(2, *arguments)
        self.assertEqual(bb.raw_fields(output), self.straight2)

    def test_killed_while_saving_beside_steps_loses_no_committed_step(self):
        for point in ("folder_made", "tensors_written:1", "tensors_synced", "manifest_written", "committed"):
            output = self.folder / f"beside-{point.replace(':', '-')}"
            arguments = ["train", self.config, f"output={output}", "parallel.context=2", "train.lr_scheduler=constant",
                         "checkpoint.async=true", "checkpoint.every_steps=2"]
            bb.run(2, *arguments, "train.max_steps=4")
            bb.run(2, *arguments, expect=None, environment={"CARILLON_TEST_FAIL": point})
            self.assertTrue((output / "checkpoints/step-00000004/manifest.json").exists(), point)
            bb.run(2, *arguments)
            self.assertEqual([r["step"] for r in bb.metrics(output)], list(range(1, 13)), point)

    def test_a_damaged_checkpoint_is_passed_over_aloud(self):
        for damage in ("payload", "manifest", "truncated"):
            output = self.folder / f"damaged-{damage}"
            shutil.copytree(self.folder / "straight", output)
            newest = output / "checkpoints/step-00000012"
            state = newest / "state.h5"
            if damage == "payload":
                data = bytearray(state.read_bytes())
                data[len(data) * 3 // 4] ^= 0x10
                state.write_bytes(data)
            elif damage == "manifest":
                text = (newest / "manifest.json").read_text()
                (newest / "manifest.json").write_text(text.replace('"step"', '"stop"', 1))
            else:
                data = state.read_bytes()
                state.write_bytes(data[: len(data) // 2])
            done = bb.run(1, "train", self.config, f"output={output}")
            self.assertIn("step-00000012", done.stderr)
            self.assertEqual(bb.raw_fields(output), self.straight, damage)
            self.assertTrue(any(p.name.startswith(".bad-step-00000012") for p in (output / "checkpoints").iterdir()))

    def test_lost_records_are_named(self):
        output = self.folder / "lost"
        bb.run(1, "train", self.config, f"output={output}", "train.max_steps=4")
        (output / "metrics.jsonl").unlink()
        done = bb.run(1, "train", self.config, f"output={output}", "train.max_steps=6")
        self.assertIn(f"warning: the records of the 4 steps so far are missing, {output}/metrics.jsonl", done.stderr)
        self.assertEqual([r["step"] for r in bb.metrics(output)], [5, 6])
        done = bb.run(1, "train", self.config, f"output={output}", "train.max_steps=7")
        self.assertNotIn("missing", done.stderr)
        done = bb.run(1, "train", self.config, f"output={self.folder}/branch", "train.max_steps=8",
                      f"checkpoint.resume={output}/checkpoints/step-00000007")
        self.assertNotIn("missing", done.stderr, "another run's checkpoint has its records there")

    def test_only_invalid_checkpoints_is_no_fresh_start(self):
        output = self.folder / "all-bad"
        shutil.copytree(self.folder / "straight", output)
        for manifest in output.glob("checkpoints/step-*/manifest.json"):
            manifest.write_text("{}")
        done = bb.run(1, "train", self.config, f"output={output}", expect=65)
        self.assertIn("carillon: error:", done.stderr)

    def test_manifest_holds_what_the_interface_says(self):
        manifest = json.loads((self.folder / "straight/checkpoints/step-00000012/manifest.json").read_text())
        for key in ("step", "format_version", "tensors", "layout", "data", "config", "hash"):
            self.assertIn(key, manifest)
        self.assertEqual(manifest["step"], 12)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
