"""`--profile`, `runtime.trace` and `runtime.isa`: they report on a run and do not change its results."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb


class Profile(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.config = bb.tiny_run(self.folder, count=200)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def test_trace_and_profile_change_no_bit(self):
        for ranks, extra in ((1, []), (2, ["parallel.context=2"])):
            plain, traced, trace = (self.folder / f"{name}{ranks}" for name in ("plain", "traced", "trace.json"))
            bb.run(ranks, "train", self.config, f"output={plain}", *extra)
            done = bb.run(ranks, "train", self.config, f"output={traced}", f"runtime.trace={trace}", "--profile", *extra)
            self.assertEqual(bb.raw_fields(plain), bb.raw_fields(traced))
            events = json.loads(trace.read_text())
            names = {(event["pid"], event["name"]) for event in events if event["ph"] == "X"}
            for rank in range(ranks):
                self.assertIn((rank, "attention_forward"), names)
            if ranks == 2:
                self.assertIn((1, "wait cp"), names)
            self.assertEqual(list(self.folder.glob("trace.json*.rank*")), [], "the parts became one file")
            table = done.stderr[done.stderr.index("where rank 0"):]
            for word in ("attention_backward", "adamw", "GFLOP/s", "between them", "100.0%"):
                self.assertIn(word, table)

    def test_a_trace_that_cannot_be_written(self):
        done = bb.run(1, "train", self.config, "runtime.trace=/proc/none/trace.json", expect=73)
        self.assertIn("runtime.trace", done.stderr)

    def test_instruction_sets(self):
        available = json.loads(bb.run(1, "info", "--json").stdout)["devices"][0]["available"]
        losses = {}
        for name in available:
            output = self.folder / name
            done = bb.run(1, "train", self.config, f"output={output}", f"runtime.isa={name}", "train.max_steps=3",
                          "runtime.dtype=float32")
            self.assertIn(f"on {name};", done.stderr)
            losses[name] = [record["loss"] for record in bb.metrics(output)]
        for values in losses.values():
            for value, expected in zip(values, losses["baseline"]):
                self.assertAlmostEqual(value, expected, delta=2e-5)
        done = bb.run(1, "train", self.config, "runtime.isa=avx9", expect=64)
        self.assertIn("runtime.isa", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
