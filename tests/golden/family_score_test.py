"""Compares `carillon score` on one group of families.py (the argument) with transformers in float64, on seven layouts.
Every log-probability agrees to 1e-9 in float64 and to 5e-5 in float32. Black box."""

import json
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import black_box as bb
import families
from layouts import EVERY, chosen

GROUP = []
BOUNDS = {"float64": 1e-9, "float32": 5e-5}
LAYOUTS = chosen("1", "tp2", "tp4", "cp2", "cp3", "tp2cp2", "dp2")
ROUNDED = tuple(LAYOUTS) if EVERY else ("1", "tp2cp2")  # float32: the layouts whose rounding differs most


class FamilyScore(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.input = cls.folder / "documents.jsonl"
        cls.input.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in families.documents()))
        cls.models = {name: families.make(cls.folder / name, name) for name in GROUP}

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def scores(self, model, ranks=1, keys=(), dtype="float64"):
        output = self.folder / "scores.jsonl"
        bb.run(ranks, "score", f"model={model}", f"input={self.input}", f"output={output}", f"runtime.dtype={dtype}", *keys)
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def difference(self, name, scores, key="scores"):
        expected = families.expected(name)[key]
        self.assertEqual([len(s) for s in scores], [len(s) for s in expected])
        self.assertTrue(all(s[0] is None for s in scores))
        return max(abs(a - b) for mine, theirs in zip(scores, expected) for a, b in zip(mine[1:], theirs[1:]))

    def test_every_layout(self):
        for name in GROUP:
            # The text model of a wrapper is a case of its own, so two layouts suffice here.
            for layout in ("1", "tp2cp2") if name in families.WRAPPERS else LAYOUTS:
                for dtype, bound in BOUNDS.items():
                    if dtype == "float32" and layout not in ROUNDED:
                        continue
                    with self.subTest(case=name, layout=layout, dtype=dtype):
                        scores = self.scores(self.models[name], *LAYOUTS[layout], dtype)
                        self.assertLessEqual(self.difference(name, scores), bound)

    def test_model_file(self):
        for name in GROUP:
            with self.subTest(case=name):
                done = bb.run(1, "import", self.models[name], self.folder / f"{name}.h5")
                scores = self.scores(self.folder / f"{name}.h5")
                self.assertLessEqual(self.difference(name, scores), BOUNDS["float64"])
                if name in families.WRAPPERS:
                    lines = [line for line in (done.stdout + done.stderr).splitlines() if "vision" in line]
                    self.assertEqual(len(lines), 1, "one line counts the vision tensors that are left out")
                    self.assertRegex(lines[0], r"\b2\b")

    def test_resonance_over_the_familys_own_rotation(self):
        for name in GROUP:
            for layout in ("1", "tp2cp2"):
                with self.subTest(case=name, layout=layout):
                    ranks, keys = LAYOUTS[layout]
                    scores = self.scores(self.models[name], ranks, [*keys, "rope.resonance=true"])
                    self.assertLessEqual(self.difference(name, scores, "resonance"), BOUNDS["float64"])

    def test_bfloat16_follows(self):
        """bfloat16 has about three decimal digits: the mean difference over all tokens stays small."""
        for name in GROUP:
            with self.subTest(case=name):
                scores = self.scores(self.models[name], dtype="bfloat16")
                exact = [value for line in families.expected(name)["scores"] for value in line[1:]]
                mine = [value for line in scores for value in line[1:]]
                self.assertLessEqual(sum(abs(a - b) for a, b in zip(mine, exact)) / len(exact), 0.1)
                self.assertNotEqual(mine, exact)

    def test_a_changed_setting_would_be_seen(self):
        """The control: with one setting changed, the program is far outside both bounds. This test changes the first
        setting of every case; make_families.py changes every setting of the reference."""
        for name in GROUP:
            if name in families.WRAPPERS:
                continue
            path, value = families.CONTROLS[name][0]
            with self.subTest(case=name, setting=path):
                model = families.make(self.folder / f"{name}_changed", name, families.changed(name, path, value))
                scores = self.scores(model)
                self.assertGreater(self.difference(name, scores), 1e-3)


if __name__ == "__main__":
    GROUP += families.GROUPS[sys.argv.pop(1)]
    unittest.main(verbosity=2, warnings="ignore")
