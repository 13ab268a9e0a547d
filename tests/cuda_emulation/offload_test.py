"""train.offload on emulated CUDA devices with the whole program: the metrics equal those of a run without it, character
for character, also after stopping and resuming, and with streams that keep only the declared order."""

import pathlib
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import black_box as bb

# Streams execute only what is waited for.
ADVERSARIAL = {"CARILLON_EMULATION": "streams=adversarial:1"}
LAYOUTS = {"1": (1, []), "cp2": (2, ["parallel.context=2", "parallel.zero=1"])}


class OffloadOnCuda(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        cls.plain = {name: cls.train(f"plain-{name}", ranks, *keys) for name, (ranks, keys) in LAYOUTS.items()}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, name, ranks, *keys, environment=None, steps=8):
        folder = cls.folder / name
        # Three of the five layers are offloaded.
        bb.run(ranks, "train", cls.config, f"output={folder}", "model.num_hidden_layers=5", f"train.max_steps={steps}",
               "train.lr_scheduler=constant", "runtime.device=cuda", *keys, environment=environment)
        return bb.raw_fields(folder)

    def test_changes_no_character(self):
        for name, (ranks, keys) in LAYOUTS.items():
            with self.subTest(name):
                got = self.train(f"all-{name}", ranks, "train.offload=all", *keys, environment=ADVERSARIAL)
                self.assertEqual(len(got), 8)
                self.assertEqual(got, self.plain[name])

    # State in host memory is saved from and loaded into host memory; a run saved without offload can continue with it.
    def test_resumes(self):
        for name, (ranks, keys) in LAYOUTS.items():
            for first, second in (("all", "all"), ("none", "optimizer"), ("optimizer", "none")):
                with self.subTest(f"{name} {first} {second}"):
                    folder = f"resumed-{name}-{first}-{second}"
                    self.train(folder, ranks, f"train.offload={first}", *keys, environment=ADVERSARIAL, steps=3)
                    got = self.train(folder, ranks, f"train.offload={second}", *keys, environment=ADVERSARIAL)
                    self.assertEqual(got, self.plain[name])

    def test_a_wait_left_out_is_noticed(self):
        environment = {"CARILLON_TEST_BREAK": "copy_not_awaited", **ADVERSARIAL}
        for offload in ("checkpoints", "optimizer"):
            with self.subTest(offload):
                try:
                    got = self.train(f"broken-{offload}", 1, f"train.offload={offload}", environment=environment)
                except AssertionError as error:  # the run reports NaN and ends
                    self.assertRegex(str(error), "exit code (70|75|1)|not finite|NaN|nan")
                    continue
                self.assertNotEqual(got, self.plain["1"])

    def test_host_memory_has_nothing_to_offload_to(self):
        for device in ("cpu", "reference"):
            done = bb.run(1, "train", self.config, f"output={self.folder / 'refused'}", f"runtime.device={device}",
                          "train.offload=all", expect=64)
            self.assertIn("keeps everything in host memory already", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
