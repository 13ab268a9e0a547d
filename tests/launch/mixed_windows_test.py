"""`rope.mixed_windows`: documents packed into one sequence are trained as if each were alone, with the list for its own
length, on every layout, and scored likewise."""

import json
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

ROPE = ["rope.type=longrope", "rope.factor=4", "rope.original_max_position_embeddings=16", "rope.attention_factor=1",
        "rope.short_factor=[1,1.2,1.5,2]", "rope.long_factor=[1,2,4,8]"]
LENGTHS = [16, 5, 17, 30, 9, 48, 12, 33]


class MixedWindows(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        draw = random.Random(6)
        cls.documents = [[draw.randrange(61) for _ in range(length)] for length in LENGTHS]
        cls.model = golden_folder.make(cls.folder, "model", "llama", {**cases.ARCHITECTURES["llama"], "max_position_embeddings": 16})
        cls.config = cls.folder / "train.yaml"
        cls.write("data", cls.documents)
        cls.config.write_text(f"""
model: {{base: {cls.model}}}
data: {{train: [{{path: {cls.folder}/data.jsonl}}], sequence_length: 64, packing: true, shuffle: false}}
train: {{max_steps: 1, micro_batch_size: 4, learning_rate: 1e-3}}
runtime: {{dtype: float64}}
output: {cls.folder}/run
""")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def write(cls, name, documents):
        path = cls.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in documents))
        return path

    def first(self, name, *keys, ranks=1):
        bb.run(ranks, "train", self.config, f"output={self.folder}/{name}", *ROPE, *keys)
        return bb.metrics(self.folder / name)[0]

    def scores(self, *keys):
        output = self.folder / "scores.jsonl"
        bb.run(1, "score", f"model={self.model}", f"input={self.folder}/data.jsonl", f"output={output}", "runtime.dtype=float64", *ROPE, *keys)
        return [[-value for value in json.loads(line)["logprobs"][1:]] for line in output.read_text().splitlines()]

    def test_a_packed_step_is_that_of_the_documents_by_themselves(self):
        scores = self.scores()
        alone = sum(map(sum, scores)) / sum(map(len, scores))
        mixed = self.first("mixed", "rope.mixed_windows=true")
        self.assertAlmostEqual(mixed["loss"], alone, delta=1e-11)
        for a, b in zip(self.scores("rope.mixed_windows=true"), scores, strict=True):
            for x, y in zip(a, b, strict=True):
                self.assertAlmostEqual(x, y, delta=1e-12)
        # Without it, all documents use the list for the length of the sequence.
        self.assertGreater(abs(self.first("plain")["loss"] - alone), 1e-5)
        for number, (ranks, layout) in enumerate([(2, ["parallel.context=2"]), (4, ["parallel.context=4", "parallel.layout=contiguous"]),
                                                  (2, ["parallel.tensor=2"]), (2, ["parallel.data=2", "train.micro_batch_size=2"])]):
            record = self.first(f"layout-{number}", "rope.mixed_windows=true", *layout, ranks=ranks)
            self.assertAlmostEqual(record["loss"], mixed["loss"], delta=1e-11, msg=layout)
            self.assertAlmostEqual(record["grad_norm"], mixed["grad_norm"], delta=1e-9, msg=layout)

    def test_its_run_is_scored_planned_verified_and_exported(self):
        self.first("run", "rope.mixed_windows=true")
        plan = json.loads(bb.run(1, "plan", self.config, "--json", "plan.profile=h100-sxm", *ROPE, "rope.mixed_windows=true").stdout)
        plain = json.loads(bb.run(1, "plan", self.config, "--json", "plan.profile=h100-sxm", *ROPE).stdout)
        # Cosines and sines for as many positions again, of 4 pairs in float64.
        self.assertGreaterEqual(plan["memory"]["peak_bytes"] - plain["memory"]["peak_bytes"], 64 * 4 * 2 * 8)
        verify = bb.run(2, "verify", self.config, *ROPE, "rope.mixed_windows=true", "parallel.context=2", "--json")
        self.assertTrue(json.loads(verify.stdout)["agrees"])
        out = self.folder / "exported"
        bb.run(1, "export", self.folder / "run", out, "format=hf")
        rope = json.loads((out / "config.json").read_text())["rope_parameters"]
        self.assertEqual(rope["rope_type"], "longrope")
        self.assertNotIn("mixed_windows", rope)

    def test_where_it_means_nothing_it_is_refused(self):
        def refused(*keys):
            done = bb.run(1, "train", self.config, f"output={self.folder}/refused", *keys, "rope.mixed_windows=true", expect=64)
            return next(line for line in done.stderr.splitlines() if line.startswith("carillon: error"))
        self.assertIn("mixed_windows", refused("rope.type=yarn", "rope.factor=4"))
        self.assertIn("mixed_windows", refused())
        self.assertIn("rope.length", refused(*ROPE, "rope.length=64"))
        self.assertIn("mixed_windows", bb.run(1, "train", self.config, *ROPE, "rope.mixed_window=true", expect=64).stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
