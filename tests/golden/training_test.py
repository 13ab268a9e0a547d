"""Compares `carillon train` in float64 with PyTorch's AdamW: loss, gradient norm and learning rate of ten steps to
1e-9, with packing, loss masks and accumulation, on up to nine layouts and three ZeRO stages; also each parameter's
gradient of the first step."""

import json
import math
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import black_box as bb
import cases
import golden_folder
from layouts import EVERY, chosen

CONFIG = """
model: {base: %(model)s}
data:
  train: [{path: %(folder)s/train.jsonl}]
  sequence_length: %(length)d
  packing: true
  shuffle: false
train:
  max_steps: %(steps)d
  micro_batch_size: %(micro_batch_size)d
  gradient_accumulation_steps: %(gradient_accumulation_steps)d
  learning_rate: %(learning_rate)g
  warmup_steps: %(warmup_steps)d
  min_lr_ratio: %(min_lr_ratio)g
  weight_decay: %(weight_decay)g
  adam_beta2: 0.95
  max_grad_norm: %(max_grad_norm)g
runtime: {dtype: float64}
checkpoint: {every_steps: 1, keep: 20}
"""

LAYOUTS = chosen("1", "tp2", "tp4", "cp2", "cp3", "cp4", "cp4 in two levels", "tp2cp2", "dp2",
                 dp2=["train.micro_batch_size=1"])
# One architecture runs on every layout. Every architecture runs on one layout for each way to split (tp2 is in
# test_gradients_by_parameter) and on those that exercise its own rules: more ranks than key heads, windows in a ring.
SPLIT = ("1", "tp2cp2", "dp2")
OWN = {"llama": tuple(LAYOUTS), "llama_mqa": ("tp4",), "mistral": ("cp3", "cp4 in two levels")}


class Training(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        (cls.folder / "train.jsonl").write_text("".join(
            json.dumps({"tokens": tokens, "loss_mask": weights}) + "\n" for tokens, weights in cases.training_documents()))
        for name in cases.TRAINED:
            model = golden_folder.make(cls.folder, name, name, cases.ARCHITECTURES[name])
            (cls.folder / f"{name}.yaml").write_text(CONFIG % {
                "model": model, "folder": cls.folder, "length": cases.SEQUENCE_LENGTH, **cases.TRAINING})

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def train(self, name, label, ranks, keys):
        output = self.folder / f"run-{name}-{label}"
        bb.run(ranks, "train", self.folder / f"{name}.yaml", f"output={output}", *keys)
        return output

    def compare(self, name, output, what, bound=1e-9):
        records = golden_folder.expected(f"training_{name}")["records"]
        got = bb.metrics(output)
        self.assertEqual(len(got), len(records))
        worst = 0
        for mine, theirs in zip(got, records):
            self.assertEqual(mine["tokens"], theirs["tokens"], what)
            for key in ("loss", "grad_norm", "lr"):
                worst = max(worst, abs(mine[key] - theirs[key]) / abs(theirs[key]))
        self.assertLessEqual(worst, bound, f"{name} {what}")

    def test_every_architecture_on_its_layouts(self):
        for name in cases.TRAINED:
            for layout, (ranks, keys) in LAYOUTS.items():
                if not EVERY and layout not in SPLIT + OWN.get(name, ()):
                    continue
                self.compare(name, self.train(name, layout, ranks, [*keys, "checkpoint.every_steps=100"]), layout)

    def test_zero_stages_and_recompute(self):
        for zero in (0, 2):
            for layout in ("1", "cp2", "tp2cp2"):
                ranks, keys = LAYOUTS[layout]
                self.compare("llama", self.train("llama", f"zero{zero}-{layout}", ranks, [*keys, f"parallel.zero={zero}"]), zero)
        for recompute in ("none", "full"):
            self.compare("qwen3", self.train("qwen3", recompute, 2, ["parallel.context=2", f"train.recompute={recompute}"]),
                         recompute)

    def test_gradients_by_parameter(self):
        """After one step the first moment is a tenth of the clipped gradient."""
        try:
            import h5py
            import numpy
        except ImportError:
            self.skipTest("h5py is not installed")
        for name in cases.TRAINED:
            output = self.train(name, "moments", 2, ["parallel.tensor=2"])
            expected = golden_folder.expected(f"training_{name}")["exp_avg"]
            with h5py.File(output / "checkpoints/step-00000001/state.h5") as file:
                for key, (norm, projection) in expected.items():
                    flat = numpy.array(file[f"optimizer/exp_avg/{key}"]).flatten()
                    wave = numpy.cos(numpy.arange(flat.size, dtype=numpy.float64))
                    self.assertLessEqual(abs(numpy.linalg.norm(flat) - norm), 1e-9 * max(norm, 1e-3), f"{name} {key}")
                    self.assertLessEqual(abs(flat @ wave - projection), 1e-9 * max(norm, 1e-3) * math.sqrt(flat.size), key)

    def test_a_dropped_weight_would_be_seen(self):
        output = self.folder / "run-control"
        bb.run(1, "train", self.folder / "llama.yaml", f"output={output}",
               environment={"CARILLON_TEST_BREAK": "loss_weight_dropped"})
        with self.assertRaises(AssertionError):
            self.compare("llama", output, "control", bound=1e-6)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
