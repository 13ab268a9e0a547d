"""Compares `carillon train` in float64 on one group of families.py (the argument) with PyTorch's AdamW: loss, gradient
norm and learning rate of ten steps to 1e-9, and every parameter's gradient of the first step, on four layouts. Black
box."""

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
import families
from layouts import chosen

GROUP = []
CONFIG = """
model: {base: %(model)s}
data: {train: [{path: %(folder)s/train.jsonl}], sequence_length: %(length)d, packing: true, shuffle: false}
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
checkpoint: {every_steps: 100}
"""
LAYOUTS = {**chosen("1", "tp2cp2", "dp2 zero2", tp2cp2=["checkpoint.every_steps=1", "checkpoint.keep=20"],
                    dp2_zero2=["train.micro_batch_size=1"]),
           "cp2 recomputed": (2, ["parallel.context=2", "train.recompute=full"])}
# Fused tensor -> its parts in row order, for checkpoints that store the parts separately.
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


class FamilyTraining(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        documents = cases.training_documents(families.GEOMETRY["vocab_size"])
        (cls.folder / "train.jsonl").write_text("".join(
            json.dumps({"tokens": tokens, "loss_mask": weights}) + "\n" for tokens, weights in documents))
        for name in GROUP:
            model = families.make(cls.folder / name, name)
            (cls.folder / f"{name}.yaml").write_text(CONFIG % {
                "model": model, "folder": cls.folder, "length": cases.SEQUENCE_LENGTH, **cases.TRAINING})

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def train(self, name, layout):
        ranks, keys = LAYOUTS[layout]
        output = self.folder / f"run-{name}-{layout}".replace(" ", "-")
        bb.run(ranks, "train", self.folder / f"{name}.yaml", f"output={output}", *keys)
        return output

    def compare_records(self, name, output):
        expected = families.expected(name)["training"]["records"]
        got = bb.metrics(output)
        self.assertEqual([r["tokens"] for r in got], [r["tokens"] for r in expected])
        for mine, theirs in zip(got, expected):
            for key in ("loss", "grad_norm", "lr"):
                self.assertLessEqual(abs(mine[key] - theirs[key]), 1e-9 * abs(theirs[key]), f"{key} of step {mine['step']}")

    def compare_gradients(self, name, output):
        """After one step the first moment is a tenth of the clipped gradient."""
        import h5py
        import numpy
        with h5py.File(output / "checkpoints/step-00000001/state.h5") as file:
            moments = file["optimizer/exp_avg"]

            def moment(key):
                for whole, parts in PARTS.items():
                    if whole in key and key not in moments:
                        return numpy.concatenate([numpy.array(moments[key.replace(whole, part)]) for part in parts])
                return numpy.array(moments[key])
            for key, (norm, projection) in families.expected(name)["training"]["exp_avg"].items():
                flat = moment(key).flatten()
                wave = numpy.cos(numpy.arange(flat.size, dtype=numpy.float64))
                self.assertLessEqual(abs(numpy.linalg.norm(flat) - norm), 1e-9 * max(norm, 1e-3), key)
                self.assertLessEqual(abs(flat @ wave - projection), 1e-9 * max(norm, 1e-3) * math.sqrt(flat.size), key)

    def test_every_layout(self):
        for name in GROUP:
            for layout in LAYOUTS:
                with self.subTest(case=name, layout=layout):
                    output = self.train(name, layout)
                    self.compare_records(name, output)
                    if layout == "tp2cp2":
                        self.compare_gradients(name, output)


if __name__ == "__main__":
    GROUP += [name for name in families.GROUPS[sys.argv.pop(1)] if name in families.TRAINED]
    unittest.main(verbosity=2, warnings="ignore")
