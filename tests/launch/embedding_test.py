"""Embeddings: `score embedding=…` and the task of a sweep, the same on every layout. (Their values:
tests/launch/embedder_test.cpp.)"""

import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder

LAYOUTS = [(1, []), (2, ["parallel.context=2"]), (2, ["parallel.tensor=2"]), (3, ["parallel.data=3"]),
           (4, ["parallel.context=2", "parallel.tensor=2"])]


class Embedding(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        draw = random.Random(8)
        cls.documents = [[draw.randrange(61) for _ in range(length)] for length in (1, 9, 40, 64, 17)]
        (cls.folder / "data.jsonl").write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cls.documents))
        cls.model = golden_folder.make(cls.folder, "model", "llama", cases.ARCHITECTURES["llama"])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def score(self, *keys, ranks=1):
        output = self.folder / "scores.jsonl"
        bb.run(ranks, "score", f"model={self.model}", f"input={self.folder}/data.jsonl", f"output={output}", "runtime.dtype=float64", *keys)
        return [json.loads(line) for line in output.read_text().splitlines()]

    def test_scores_have_embeddings_beside_them(self):
        plain = self.score()
        self.assertNotIn("embedding", plain[0])
        first = {}
        for ranks, layout in LAYOUTS:
            for pooling in ("mean", "last"):
                records = self.score(f"embedding={pooling}", *layout, ranks=ranks)
                self.assertEqual(len(records), len(plain))
                for record, other in zip(records, plain):
                    self.assertEqual(record["id"], other["id"])
                    for a, b in zip(record["logprobs"][1:], other["logprobs"][1:], strict=True):
                        self.assertAlmostEqual(a, b, delta=1e-11)
                    self.assertAlmostEqual(math.hypot(*record["embedding"]), 1, delta=1e-12)
                for record, other in zip(records, first.setdefault(pooling, records)):
                    for a, b in zip(record["embedding"], other["embedding"], strict=True):
                        self.assertAlmostEqual(a, b, delta=1e-11, msg=f"{pooling} {layout}")
        # For a document of one token, mean and last are the same.
        self.assertEqual(first["mean"][0]["embedding"], first["last"][0]["embedding"])
        self.assertNotEqual(first["mean"][1]["embedding"], first["last"][1]["embedding"])

    def sweep(self, name, *keys, ranks=1, expect=0, **task):
        tasks = [{"task": "embedding", "name": f"{subtask}-{positions}", "subtask": subtask, "positions": positions, "queries": 6,
                  "candidates": 10, "trained_length": 24, **task} for subtask in ("passkey", "needle")
                 for positions in ("consecutive", "grouped", "recurrent", "chunks")]
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"models": [str(self.model)], "runtime": {"dtype": "float64"}, "lengths": [24, 60], "tasks": tasks,
                                    "rope": {"own": {}, "ntk": {"type": "ntk", "factor": 4}}, "output": str(self.folder / name)}))
        done = bb.run(ranks, "sweep", path, *keys, expect=expect)
        if expect:
            return done.stderr
        records = [json.loads(line) for line in (self.folder / name / "evals.jsonl").read_text().splitlines()]
        return {(r["rope_name"], r["length"], r["task"]): r["metrics"] for r in records}

    def test_a_sweep_asks_for_documents_by_their_facts(self):
        one = self.sweep("one")
        self.assertEqual(len(one), 2 * 2 * 8)
        for key, metrics in one.items():
            self.assertEqual((metrics["queries"], metrics["candidates"]), (6, 10))
            self.assertTrue(0 <= metrics["accuracy"] <= metrics["ndcg_10"] <= 1, metrics)
            self.assertTrue(metrics["accuracy"] <= metrics["mean_reciprocal_rank"] <= 1, metrics)
            self.assertAlmostEqual(metrics["accuracy"] * 6, round(metrics["accuracy"] * 6), delta=1e-9)
            # No document is longer than the trained length, so all modes agree.
            if key[1] == 24:
                self.assertAlmostEqual(metrics["margin"], one[(key[0], 24, key[2].split("-")[0] + "-consecutive")]["margin"], delta=1e-12)
        self.assertEqual(len({round(one[("own", 60, f"passkey-{p}")]["margin"], 9) for p in ("consecutive", "grouped", "recurrent", "chunks")}), 4)
        self.assertNotEqual(one[("own", 60, "needle-consecutive")], one[("ntk", 60, "needle-consecutive")])
        for number, (ranks, layout) in enumerate(LAYOUTS[1:]):
            for key, metrics in self.sweep(f"layout-{number}", *layout, ranks=ranks).items():
                for name, value in metrics.items():
                    self.assertAlmostEqual(value, one[key][name], delta=1e-9, msg=f"{key} {name} {layout}")

    def test_what_makes_no_sense_is_refused(self):
        for name, value in (("pooling", "max"), ("subtask", "uuid"), ("queries", 11), ("candidates", 1), ("queries", 0), ("positions", "self")):
            self.assertIn(name if name != "queries" or value == 0 else "candidates", self.sweep("refused", expect=64, **{name: value}))
        self.assertIn("length 8", self.run_short())

    def run_short(self):
        done = bb.run(1, "eval", f"model={self.model}", "length=8", 'task={"task": "embedding"}', "runtime.dtype=float64", expect=64)
        return done.stderr


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
