"""Compares one case of adapters.py (the argument) in float64 with PEFT on transformers and PyTorch's AdamW: the scores
of a base with an adapter, and loss, gradient norm and learning rate of ten steps that continue from that adapter, to
1e-9 on every layout; also the gradient of each parameter. Mistakes planted in the program must be detected. Black
box."""

import json
import math
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import adapters
import black_box as bb
import cases
from family_training_test import CONFIG
from layouts import chosen

CASES = []
LAYOUTS = {**chosen("1", "tp2", "tp4", "cp2", "tp2cp2", "dp2 zero2", dp2_zero2=["train.micro_batch_size=1"]),
           "full": (1, ["train.recompute=full"]),
           "none zero0": (2, ["parallel.context=2", "train.recompute=none", "parallel.zero=0"]),
           "tiles": (2, ["parallel.tensor=2", "train.mlp_tile=7"])}


class Adapter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.base, cls.adapter = {}, {}
        for name in CASES:
            vocabulary = adapters.vocabulary(name)
            data = cls.folder / f"data-{name}"
            data.mkdir()
            (data / "train.jsonl").write_text("".join(
                json.dumps({"tokens": tokens, "loss_mask": weights}) + "\n"
                for tokens, weights in cases.training_documents(vocabulary)))
            (data / "documents.jsonl").write_text("".join(
                json.dumps({"tokens": tokens}) + "\n" for tokens in cases.documents(vocabulary)))
            cls.base[name] = adapters.base_folder(cls.folder, name)
            cls.adapter[name] = adapters.make(cls.folder / f"adapter-{name}", name, base=cls.base[name])
            (cls.folder / f"{name}.yaml").write_text(CONFIG % {
                "model": cls.base[name], "folder": data, "length": cases.SEQUENCE_LENGTH, **cases.TRAINING} +
                f"adapter: {{type: lora, base: {cls.adapter[name]}}}\n")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def train(self, name, layout, keys=(), environment=None):
        ranks, settings = LAYOUTS[layout]
        output = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "run"
        # With a planted mistake the replicas may diverge. The last checkpoint then fails with 70, after all steps are
        # recorded.
        bb.run(ranks, "train", self.folder / f"{name}.yaml", f"output={output}", *settings, *keys, environment=environment,
               expect=None if environment else 0)
        return output

    def worst(self, name, output):
        expected = adapters.expected(name)["training"]["records"]
        got = bb.metrics(output)
        self.assertEqual([r["tokens"] for r in got], [r["tokens"] for r in expected])
        return max(abs(mine[key] - theirs[key]) / abs(theirs[key]) for mine, theirs in zip(got, expected)
                   for key in ("loss", "grad_norm", "lr"))

    def test_every_layout(self):
        for name in CASES:
            for layout in LAYOUTS:
                with self.subTest(case=name, layout=layout):
                    self.assertLessEqual(self.worst(name, self.train(name, layout)), 1e-9)

    def test_gradients_by_parameter_and_nothing_else(self):
        """After one step the first moment is a tenth of the clipped gradient. The checkpoint holds no moments and no
        weights of the base."""
        import h5py
        import numpy
        for name in CASES:
            output = self.train(name, "tp2cp2", ["checkpoint.every_steps=1", "checkpoint.keep=20"])
            with h5py.File(output / "checkpoints/step-00000001/state.h5") as file:
                expected = adapters.expected(name)["training"]["exp_avg"]
                self.assertEqual(set(file["model"]), set(expected))
                self.assertEqual(set(file["optimizer/exp_avg"]), set(expected))
                for key, (norm, projection) in expected.items():
                    flat = numpy.array(file[f"optimizer/exp_avg/{key}"]).flatten()
                    wave = numpy.cos(numpy.arange(flat.size, dtype=numpy.float64))
                    self.assertLessEqual(abs(numpy.linalg.norm(flat) - norm), 1e-9 * max(norm, 1e-3), key)
                    self.assertLessEqual(abs(flat @ wave - projection), 1e-9 * max(norm, 1e-3) * math.sqrt(flat.size), key)

    def score(self, ranks, name, *arguments):
        output = self.folder / "scores.jsonl"
        bb.run(ranks, "score", f"input={self.folder}/data-{name}/documents.jsonl", f"output={output}",
               "runtime.dtype=float64", *arguments)
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def test_scores(self):
        for name in CASES:
            expected = adapters.expected(name)["scores"]
            for what, ranks, arguments in (
                    ("a PEFT folder", 1, [f"model={self.adapter[name]}"]),
                    ("beside its base", 2, [f"model={self.base[name]}", f"adapter={self.adapter[name]}",
                                            "parallel.tensor=2"]),
                    ("tp2cp2", 4, [f"model={self.adapter[name]}", "parallel.tensor=2", "parallel.context=2"])):
                got = self.score(ranks, name, *arguments)
                for mine, theirs in zip(got, expected):
                    self.assertEqual(len(mine), len(theirs))
                    for x, y in zip(mine[1:], theirs[1:]):
                        self.assertLessEqual(abs(x - y), 1e-9, f"{name} {what}")

    def test_mistakes_would_be_seen(self):
        for mistake, layout in (("replicated_gradient_not_summed", "tp2"), ("adapter_scale_doubled", "1")):
            output = self.train(CASES[0], layout, environment={"CARILLON_TEST_BREAK": mistake})
            self.assertGreater(self.worst(CASES[0], output), 1e-6, mistake)


if __name__ == "__main__":
    CASES.append(sys.argv.pop(1))
    unittest.main(verbosity=2, warnings="ignore")
