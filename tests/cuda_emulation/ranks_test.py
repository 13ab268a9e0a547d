"""The whole program on several emulated CUDA devices over NCCL: layouts equal the reference in float64, checkpoints can
move between kinds of devices, and a rank that is lost or has no device ends the job with one line."""

import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import black_box as bb

ADVERSARIAL = {"CARILLON_EMULATION": "streams=adversarial:7"}
LAYOUTS = {
    "1": (1, []),
    "cp2": (2, ["parallel.context=2"]),
    "cp4": (4, ["parallel.context=4"]),
    "tp2": (2, ["parallel.tensor=2"]),
    "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"]),
    "dp2": (2, ["train.micro_batch_size=2", "parallel.zero=1"]),
    "dp2, zero 2": (2, ["train.micro_batch_size=2", "parallel.zero=2"]),
}


class Ranks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        cls.reference = cls.train("reference", 1, "runtime.device=reference")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, name, ranks, *keys, environment=None, steps=20):
        folder = cls.folder / name.replace(" ", "")
        bb.run(ranks, "train", cls.config, f"output={folder}", f"train.max_steps={steps}", "train.lr_scheduler=constant",
               *keys, environment=environment)
        return bb.metrics(folder)

    def assert_equal_to_reference(self, records):
        self.assertEqual(len(records), len(self.reference))
        for ours, theirs in zip(records, self.reference):
            for key in ("loss", "grad_norm"):
                self.assertLess(abs(ours[key] - theirs[key]), 1e-9 * abs(theirs[key]), (ours["step"], key))

    def test_layouts_equal_the_reference(self):
        for name, (ranks, keys) in LAYOUTS.items():
            with self.subTest(name):
                self.assert_equal_to_reference(
                    self.train(name, ranks, "runtime.device=cuda", *keys, environment=ADVERSARIAL))

    def test_exchanges_in_chunks_equal_the_reference(self):
        chunks = {"CARILLON_TENSOR_CHUNKS": "3", **ADVERSARIAL}
        ranks, keys = LAYOUTS["tp2cp2"]
        self.assert_equal_to_reference(self.train("chunks", ranks, "runtime.device=cuda", *keys, environment=chunks))
        done = bb.run(2, "verify", self.config, "runtime.device=cuda", "parallel.tensor=2", expect=70,
                      environment={"CARILLON_TEST_BREAK": "collective_not_awaited", **chunks})
        self.assertIn("the layout changes the result", done.stdout)

    def test_through_host_memory_where_there_is_no_nccl(self):
        folder = self.folder / "staged"
        done = bb.run(2, "train", self.config, f"output={folder}", "train.max_steps=20", "train.lr_scheduler=constant",
                      "runtime.device=cuda", "parallel.context=2",
                      environment={"CARILLON_DEVICE_TRANSPORT": "staged", **ADVERSARIAL})
        self.assertIn("through host memory, without NCCL: correct, but slow", done.stderr)
        self.assertIn("ranks joined by host memory", done.stderr)
        self.assert_equal_to_reference(bb.metrics(folder))

    def test_a_run_says_what_joins_its_ranks(self):
        done = bb.run(2, "train", self.config, f"output={self.folder / 'said'}", "train.max_steps=1",
                      "runtime.device=cuda", "parallel.context=2")
        self.assertRegex(done.stderr, r"ranks joined by NCCL \d+\.\d+\.\d+")
        self.assertNotIn("through host memory", done.stderr)

    def test_checkpoints_move_between_kinds_of_device(self):
        for first, second in (("cuda", "reference"), ("reference", "cuda")):
            with self.subTest(first):
                name = f"from-{first}"
                self.train(name, 2, f"runtime.device={first}", "parallel.context=2", steps=8)
                self.assert_equal_to_reference(
                    self.train(name, 2, f"runtime.device={second}", "parallel.tensor=2", steps=20))

    def test_verify_finds_a_wait_left_out(self):
        keys = ("train.gradient_accumulation_steps=2", "runtime.device=cuda", "parallel.context=4")
        result = json.loads(bb.run(4, "verify", self.config, "--json", *keys, environment=ADVERSARIAL).stdout)
        self.assertTrue(result["agrees"])
        self.assertLess(result["loss"], 1e-12)
        done = bb.run(4, "verify", self.config, *keys, expect=70,
                      environment={"CARILLON_TEST_BREAK": "exchange_not_awaited", **ADVERSARIAL})
        self.assertIn("the layout changes the result", done.stdout)

    def test_evaluation_and_generation(self):
        documents = self.folder / "documents.jsonl"
        documents.write_text("".join(json.dumps({"tokens": [(i * k) % 22 for i in range(1, 9 + k)]}) + "\n" for k in (3, 5, 7)))
        model = self.folder / "reference"
        results = {}
        for device, ranks, keys in (("reference", 1, []), ("cuda", 4, ["parallel.tensor=2", "parallel.context=2"])):
            out = self.folder / f"score-{device}.jsonl"
            common = [f"model={model}", f"runtime.device={device}", "runtime.dtype=float64", *keys]
            bb.run(ranks, "score", f"input={documents}", f"output={out}", *common)
            generated = bb.run(ranks, "generate", "tokens=[3, 4, 5]", "max_new_tokens=8", "--json", *common).stdout
            results[device] = [json.loads(line) for line in out.read_text().splitlines()], json.loads(generated)["tokens"]
        for ours, theirs in zip(results["cuda"][0], results["reference"][0]):
            self.assertLess(abs(ours["loss"] - theirs["loss"]), 1e-10)
        self.assertEqual(results["cuda"][1], results["reference"][1])

    def test_fewer_devices_than_ranks(self):
        done = bb.run(2, "train", self.config, f"output={self.folder / 'none'}", "runtime.device=cuda",
                      "parallel.context=2", expect=64, environment={"CARILLON_EMULATION": "devices=1"})
        errors = [line for line in done.stderr.splitlines() if line.startswith("carillon: error")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertIn("no device", errors[0])

    # As with Slurm's --gpus-per-task, every rank sees one device, as device 0.
    def test_a_device_of_its_own_for_every_rank(self):
        own = {"CARILLON_EMULATION": "visible=own"}
        records = self.train("own", 4, "runtime.device=cuda", "parallel.context=4", environment=own)
        self.assert_equal_to_reference(records)

    def test_two_ranks_on_one_device_through_host_memory(self):
        shared = {"CARILLON_EMULATION": "devices=1", "CARILLON_DEVICE_TRANSPORT": "staged"}
        self.assert_equal_to_reference(
            self.train("shared", 2, "runtime.device=cuda", "parallel.context=2", environment=shared))

    def test_nccl_refuses_two_ranks_on_one_device(self):
        done = bb.run(2, "train", self.config, f"output={self.folder / 'refused'}", "runtime.device=cuda",
                      "parallel.context=2", expect=64,
                      environment={"CARILLON_EMULATION": "devices=1", "NCCL_MULTI_RANK_GPU_ENABLE": "1"})
        errors = [line for line in done.stderr.splitlines() if line.startswith("carillon: error")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertIn("NCCL does not join these ranks", errors[0])

    def lose(self, name, how, environment, device=False):
        """Starts a long run on two ranks and sends signal `how` to the second rank (or to its emulated device, a child
        process). Returns the job's exit code, its stderr and the seconds it took to end."""
        folder = self.folder / name
        process = bb.start(2, "train", self.config, f"output={folder}", "train.max_steps=100000", "runtime.device=cuda",
                           "parallel.context=2", environment=environment)
        try:
            bb.wait_for_steps(folder, 3, process)
            victim = bb.ranks_of(process)[1]
            if device:
                victim = int(pathlib.Path(f"/proc/{victim}/task/{victim}/children").read_text().split()[0])
            begin = time.monotonic()
            os.kill(victim, how)
            out, error = process.communicate(timeout=60)
            return process.returncode, error, time.monotonic() - begin
        finally:
            if process.poll() is None:
                bb.kill_all(process)
            if how == signal.SIGSTOP:
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def test_a_killed_rank_ends_the_job_in_seconds(self):
        code, error, seconds = self.lose("killed", signal.SIGKILL, {})
        self.assertNotEqual(code, 0)
        self.assertLess(seconds, 20)

    # Only the watchdog notices: the hosts wait for their devices, which wait for each other.
    def test_a_device_that_hangs_ends_the_job_with_a_message(self):
        code, error, seconds = self.lose("hanging", signal.SIGSTOP, {"CARILLON_NCCL_TIMEOUT": "2"}, device=True)
        self.assertEqual(code, 75, error)
        self.assertRegex(error, r"carillon: error: an? [a-z-]+ \(number \d+ of this group\) has not ended after \d+ s, "
                                r"on rank 0 of 2 of group (cp|dp_cp)")
        self.assertLess(seconds, 30)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
