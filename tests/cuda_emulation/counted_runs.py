"""Runs a tiny model on emulated devices and collects their counters; shared by counts_test and launches_test."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support")]
import black_box as bb


class CountedRuns(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        # Whole sequences, in which every token except the last has a target, as the plan assumes.
        lines = [json.dumps({"tokens": [(i * k) % 22 for i in range(32)]}) for k in range(1, 65)]
        (cls.folder / "train.jsonl").write_text("\n".join(lines) + "\n")
        cls.keys = ["data.sequence_length=32", "train.micro_batch_size=2", "train.lr_scheduler=constant",
                    "checkpoint.every_steps=1000", "runtime.device=cuda"]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def counted(self, name, ranks, steps, keys, environment=None, emulation=""):
        """Returns the counters of every rank, and the records of the steps. `emulation`: further options of it."""
        folder = self.folder / f"{name}-{steps}".replace(" ", "").replace(",", "-")
        counters = folder.with_suffix(".counters")
        counters.mkdir()
        bb.run(ranks, "train", self.config, f"output={folder}", f"train.max_steps={steps}", *self.keys, *keys,
               environment={"CARILLON_EMULATION": f"counters={counters}{emulation and ','}{emulation}", **(environment or {})})
        found = [json.loads(path.read_text()) for path in sorted(counters.glob("*.json"))]
        self.assertEqual(len(found), ranks, "a file a rank")
        return found, bb.metrics(folder)
