"""Compares `carillon score` with transformers in float64 for every architecture and rotary type, on up to eight
layouts. Every log-probability agrees to 1e-9 in float64 and to 5e-5 in float32. Black box."""

import json
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

LAYOUTS = chosen("1", "tp2", "tp4", "cp2", "cp3", "cp4", "tp2cp2", "dp2")
# A rotation depends on the positions and a document's length, not on the number of ranks that share them, so one layout
# for each way to split suffices. float32 runs on the layouts whose rounding differs most: one rank, and a split both
# ways.
ROTATED = LAYOUTS if EVERY else {name: LAYOUTS[name] for name in ("1", "tp2", "cp3", "tp2cp2", "dp2")}
ROUNDED = LAYOUTS if EVERY else {name: LAYOUTS[name] for name in ("1", "tp2cp2")}


class Score(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.input = cls.folder / "documents.jsonl"
        cls.input.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cases.documents()))

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def score(self, model, settings, ranks, keys, dtype):
        output = self.folder / "scores.jsonl"
        bb.run(ranks, "score", f"model={model}", f"input={self.input}", f"output={output}", f"runtime.dtype={dtype}",
               *[f"rope.{key}={json.dumps(value)}" for key, value in settings.items()], *keys)
        return [json.loads(line) for line in output.read_text().splitlines()]

    def compare(self, name, scores, bound, what):
        expected = golden_folder.expected(f"score_{name}")
        self.assertEqual([s["id"] for s in scores], list(range(len(expected))))
        worst = 0
        for score, tokens in zip(scores, expected):
            self.assertEqual(len(score["logprobs"]), len(tokens))
            self.assertIsNone(score["logprobs"][0])
            if len(tokens) == 1:
                self.assertIsNone(score["loss"])
                continue
            worst = max(worst, max(abs(a - b) for a, b in zip(score["logprobs"][1:], tokens[1:])))
            self.assertAlmostEqual(score["loss"], -sum(tokens[1:]) / (len(tokens) - 1), delta=bound)
        self.assertLessEqual(worst, bound, f"{name} {what}")
        return worst

    def test_every_case_on_its_layouts(self):
        worst = {"float64": 0, "float32": 0}
        for name, (weights, config, settings) in cases.all_cases().items():
            model = golden_folder.make(self.folder, name, weights, config)
            for layout, (ranks, keys) in (LAYOUTS if name in cases.ARCHITECTURES else ROTATED).items():
                got = self.compare(name, self.score(model, settings, ranks, keys, "float64"), 1e-9, layout)
                worst["float64"] = max(worst["float64"], got)
                if layout in ROUNDED:
                    got = self.compare(name, self.score(model, settings, ranks, keys, "float32"), 5e-5, layout)
                    worst["float32"] = max(worst["float32"], got)
        print("largest difference:", worst)

    def test_reference_device_and_contiguous_layout(self):
        for name in ("llama", "mistral"):
            model = golden_folder.make(self.folder, name + "_again", name, cases.ARCHITECTURES[name])
            self.compare(name, self.score(model, {}, 1, ["runtime.device=reference"], "float64"), 1e-9, "reference")
            self.compare(name, self.score(model, {}, 2, ["parallel.context=2", "parallel.layout=contiguous"], "float64"), 1e-9,
                         "contiguous")

    def test_a_model_file_scores_as_its_folder(self):
        model = golden_folder.make(self.folder, "imported", "qwen3", cases.ARCHITECTURES["qwen3"])
        bb.run(1, "import", model, self.folder / "model.h5")
        self.compare("qwen3", self.score(self.folder / "model.h5", {}, 1, [], "float64"), 1e-9, "model file")

    def test_a_wrong_frequency_would_be_seen(self):
        """The control: with another rotary base the scores are far outside both bounds."""
        model = golden_folder.make(self.folder, "control", "llama", cases.ARCHITECTURES["llama"])
        scores = self.score(model, {"base": 101.0}, 1, [], "float64")
        with self.assertRaises(AssertionError):
            self.compare("llama", scores, 5e-5, "control")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
