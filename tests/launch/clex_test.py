"""`rope.type: clex`: learned with the model on every layout, kept in checkpoints, scored with the frequencies learned for
each length, exported as longrope; and refused if nothing was learned or the target cannot express it."""

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

LAYOUTS = [(2, ["parallel.context=2"]), (2, ["parallel.tensor=2"]), (2, ["parallel.data=2", "train.micro_batch_size=2", "parallel.zero=2"]),
           (4, ["parallel.context=2", "parallel.tensor=2"])]
TRAINED = 24
CLEX = ["rope.type=clex", "rope.factor=4", "rope.time_step=0.1"]


class Clex(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        draw = random.Random(3)
        cls.documents = [[draw.randrange(61) for _ in range(length)] for length in (96, 20, 48, 25, 72)]
        (cls.folder / "data.jsonl").write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cls.documents))
        cls.base = golden_folder.make(cls.folder, "base", "llama", {**cases.ARCHITECTURES["llama"], "max_position_embeddings": TRAINED})
        cls.config = cls.folder / "train.yaml"
        cls.config.write_text(f"""
model: {{base: {cls.base}}}
data: {{train: [{{path: {cls.folder}/data.jsonl}}], sequence_length: 24, packing: split, positions: random}}
train: {{max_steps: 6, micro_batch_size: 4, learning_rate: 1e-2, weight_decay: 0.1, lr_scheduler: constant, seed: 5}}
runtime: {{dtype: float64}}
checkpoint: {{every_steps: 3}}
output: {cls.folder}/run
""")
        cls.printed = cls.train("run").stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, name, *keys, ranks=1, expect=0):
        return bb.run(ranks, "train", cls.config, f"output={cls.folder}/{name}", *CLEX, *keys, expect=expect)

    def score(self, model, *keys, ranks=1, expect=0):
        output = self.folder / "scores.jsonl"
        done = bb.run(ranks, "score", f"model={model}", f"input={self.folder}/data.jsonl", f"output={output}", "runtime.dtype=float64",
                      *keys, expect=expect)
        if expect:
            return next(line for line in done.stderr.splitlines() if line.startswith("carillon: error"))
        return [json.loads(line)["logprobs"][1:] for line in output.read_text().splitlines()]

    def apart(self, a, b):
        return [max(abs(x - y) for x, y in zip(p, q, strict=True)) for p, q in zip(a, b, strict=True)]

    def test_it_is_learned_alike_on_every_layout_and_after_a_resume(self):
        losses = [record["loss"] for record in bb.metrics(self.folder / "run")]
        # Without learning it would be ntk with factor 2t - 1; here the stretch t is 4 throughout.
        self.train("fixed", "rope.length=96")
        self.assertNotEqual([record["loss"] for record in bb.metrics(self.folder / "fixed")], losses)
        for number, (ranks, layout) in enumerate(LAYOUTS):
            self.train(f"layout-{number}", *layout, ranks=ranks)
            for record, loss in zip(bb.metrics(self.folder / f"layout-{number}"), losses, strict=True):
                self.assertAlmostEqual(record["loss"], loss, delta=1e-9 * loss, msg=layout)
        self.train("resumed", "train.max_steps=3")
        self.train("resumed")
        self.assertEqual(bb.raw_fields(self.folder / "resumed"), bb.raw_fields(self.folder / "run"))
        verify = bb.run(2, "verify", self.config, *CLEX, "parallel.context=2", "--json")
        self.assertTrue(json.loads(verify.stdout)["agrees"])

    def test_what_was_learned_turns_long_documents_only(self):
        found = self.score(self.folder / "run")
        # The same weights with the initial rotation: ntk with factor 2t - 1, with t from the length of each document.
        for number, tokens in enumerate(self.documents):
            stretch = min(4, math.ceil(len(tokens) / TRAINED))
            began = self.score(self.folder / "run", *(["rope.type=default"] if stretch == 1 else
                                                      ["rope.type=ntk", f"rope.factor={2 * stretch - 1}"]))
            difference = self.apart([found[number]], [began[number]])[0]
            if stretch == 1:
                self.assertLess(difference, 1e-9)
            else:
                self.assertGreater(difference, 1e-6, len(tokens))
        for ranks, keys in ((2, ["parallel.context=2"]), (2, ["parallel.tensor=2"])):
            self.assertLess(max(self.apart(self.score(self.folder / "run", *keys, ranks=ranks), found)), 1e-9)
        # Generation treats the prompt and its continuation as one document.
        done = bb.run(1, "generate", f"model={self.folder}/run", f"tokens={json.dumps(self.documents[3])}", "max_new_tokens=4",
                      "runtime.dtype=float64", expect=None)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_inspect_names_what_was_learned(self):
        checkpoint = max((self.folder / "run/checkpoints").iterdir())
        text = bb.run(1, "inspect", checkpoint).stdout
        for name in ("model.clex_layer.proj_func.ode_up_proj", "model.clex_layer.proj_func.ode_down_proj"):
            self.assertIn(name, text)

    def test_an_export_is_longrope_at_both_ends(self):
        out = self.folder / "exported"
        done = bb.run(1, "export", self.folder / "run", out, "format=hf")
        self.assertIn("longrope", done.stdout + done.stderr)
        config = json.loads((out / "config.json").read_text())
        self.assertEqual(config["rope_parameters"]["rope_type"], "longrope")
        self.assertEqual(config["rope_parameters"]["attention_factor"], 1)
        self.assertEqual(config["max_position_embeddings"], 96)
        self.assertNotIn("clex", json.dumps(bb.run(1, "inspect", out).stdout))
        # Exact if the stretch is 1 or the factor; stretches in between use the frequencies of the factor.
        there, ours, far = self.score(out), self.score(self.folder / "run"), self.score(self.folder / "run", "rope.length=96")
        for number, tokens in enumerate(self.documents):
            expected = ours if len(tokens) <= TRAINED or len(tokens) > 3 * TRAINED else far
            self.assertLess(self.apart([there[number]], [expected[number]])[0], 1e-9, len(tokens))
        done = bb.run(1, "export", self.folder / "run", self.folder / "out.gguf", "format=gguf", expect=64)
        self.assertIn("clex", done.stderr)

    def test_going_on_and_what_is_refused(self):
        # Continues from the learned frequencies with consecutive positions; the run from the base, which learned none, has a
        # different loss.
        self.train("on", f"model.base={self.folder}/run", "data.positions=consecutive", "data.sequence_length=96", "train.max_steps=2")
        first = bb.metrics(self.folder / "on")[0]["loss"]
        self.train("anew", "data.positions=consecutive", "data.sequence_length=96", "train.max_steps=2")
        self.assertNotEqual(first, bb.metrics(self.folder / "anew")[0]["loss"])
        self.assertIn("clex", self.score(self.base, *CLEX, expect=64))
        line = self.score(self.folder / "run", "rope.param_factor=2", expect=65)
        self.assertIn("ode_up_proj", line)
        adapter = self.train("adapter", "adapter.type=lora", expect=64).stderr
        self.assertIn("clex", adapter)
        for keys, name in ((["rope.time_step=0"], "time_step"), (["rope.activation=relu"], "activation"), (["rope.param_factor=0"], "param_factor")):
            self.assertIn(name, self.train("refused", *keys, expect=64).stderr)
        sweep = self.folder / "sweep.yaml"
        sweep.write_text(f"""
models: [{self.base}]
rope: {{own: {{}}, learned: {{type: clex, factor: 4}}}}
lengths: [24]
tasks: [{{task: perplexity, data: [{{path: {self.folder}/data.jsonl}}]}}]
output: {self.folder}/sweep
""")
        bb.run(1, "sweep", sweep, expect=65)
        records = {r["rope_name"]: r for r in map(json.loads, (self.folder / "sweep/evals.jsonl").read_text().splitlines())}
        self.assertEqual(records["own"]["status"], "ok")
        self.assertIn("clex", records["learned"]["error"])


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
