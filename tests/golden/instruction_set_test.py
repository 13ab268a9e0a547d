"""The golden numbers on every instruction set of this processor, each forced by CARILLON_ISA: log-probabilities against
transformers in float64 (to 1e-9), float32 (5e-5) and bfloat16 (0.01 of their norm), and ten training steps against
PyTorch (1e-9). The same command run twice gives identical output. Black box."""

import contextlib
import json
import math
import os
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import black_box as bb
import cases
import score_test
import training_test
from layouts import EVERY, chosen

# On several ranks only attention is computed differently, in blocks. One architecture without and one with a window
# test it.
LAYOUTS = chosen("1", "cp2")
IN_BLOCKS = cases.TRAINED if EVERY else ("llama", "mistral")


def processor():
    return json.loads(bb.run(1, "info", "--json").stdout)["devices"][0]


def instruction_sets():
    return processor()["available"]


@contextlib.contextmanager
def forced(name):
    """Sets the instruction set of every program started inside the context."""
    before = os.environ.get("CARILLON_ISA")
    os.environ["CARILLON_ISA"] = name
    try:
        assert processor()["instruction_set"] == name
        yield
    finally:
        os.environ.pop("CARILLON_ISA")
        if before is not None:
            os.environ["CARILLON_ISA"] = before


def layouts_of(architecture):
    return LAYOUTS if architecture in IN_BLOCKS else {"1": LAYOUTS["1"]}


def relative_difference(name, scores):
    """Norm of the difference from the float64 log-probabilities, divided by their norm."""
    pairs = [(a, b) for score, tokens in zip(scores, score_test.golden_folder.expected(f"score_{name}"))
             for a, b in zip(score["logprobs"][1:], tokens[1:])]
    return math.dist(*zip(*pairs)) / math.hypot(*(b for _, b in pairs))


class Score(score_test.Score):
    # The inherited tests run in score_test.py.
    test_every_case_on_its_layouts = test_reference_device_and_contiguous_layout = None
    test_a_model_file_scores_as_its_folder = test_a_wrong_frequency_would_be_seen = None

    def test_scores(self):
        worst = 0
        for name in instruction_sets():
            with self.subTest(instruction_set=name), forced(name):
                for architecture, config in cases.ARCHITECTURES.items():
                    model = score_test.golden_folder.make(self.folder, f"{architecture}-{name}", architecture, config)
                    for layout, (ranks, keys) in layouts_of(architecture).items():
                        for dtype, bound in (("float64", 1e-9), ("float32", 5e-5)):
                            self.compare(architecture, self.score(model, {}, ranks, keys, dtype), bound, layout)
                        scores = self.score(model, {}, ranks, keys, "bfloat16")
                        difference = relative_difference(architecture, scores)
                        self.assertLessEqual(difference, 0.01, f"{architecture} {layout} bfloat16")
                        if architecture in IN_BLOCKS:
                            self.assertEqual(scores, self.score(model, {}, ranks, keys, "bfloat16"))
                        worst = max(worst, difference)
        print("largest difference in bfloat16:", worst)


class Training(training_test.Training):
    test_every_architecture_on_its_layouts = test_zero_stages_and_recompute = None
    test_gradients_by_parameter = test_a_dropped_weight_would_be_seen = None

    def test_training(self):
        for name in instruction_sets():
            with self.subTest(instruction_set=name), forced(name):
                for architecture in cases.TRAINED:
                    for layout, (ranks, keys) in layouts_of(architecture).items():
                        keys = [*keys, "checkpoint.every_steps=100"]
                        self.compare(architecture, self.train(architecture, f"{name}-{layout}", ranks, keys), layout)
                keys = ["checkpoint.every_steps=100", "runtime.dtype=bfloat16", "parallel.context=2"]
                runs = [self.train("llama", f"{name}-{time}", 2, keys) for time in ("once", "again")]
                self.assertEqual(*map(bb.raw_fields, runs))


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
