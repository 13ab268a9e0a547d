"""A run's folder as a model: it has its own tokenizer, and bases that form a cycle are refused."""

import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support")]
import black_box as bb
import tiny_model as tiny

TOKENIZERS = pathlib.Path(__file__).resolve().parents[1] / "golden/tokenizers"
MODEL = "{vocab_size: 1000, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}"


class RunsAsModels(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.text = self.folder / "text.jsonl"
        self.text.write_text(json.dumps({"text": "hello world, hello context"}) + "\n")
        for name in ("gpt2", "llama2"):
            (self.folder / name).mkdir()
            shutil.copy(TOKENIZERS / name / "tokenizer.json", self.folder / name)

    def train(self, name, model, tokenizer=None, data=None):
        data = data or self.text
        keys = f", tokenizer: {tokenizer}" if tokenizer else ""
        config = self.folder / f"{name}.yaml"
        config.write_text(f"model: {model}\ndata: {{train: [{{path: {data}}}], sequence_length: 16{keys}}}\n"
                          f"train: {{max_steps: 1}}\noutput: {self.folder / name}\n")
        bb.run(1, "train", config, "--quiet")
        return self.folder / name

    def tokens(self, model, expect=0):
        output = self.folder / "out.jsonl"
        output.unlink(missing_ok=True)
        done = bb.run(1, "score", f"model={model}", f"input={self.text}", f"output={output}", expect=expect)
        return done.stderr if expect else json.loads(output.read_text())["tokens"]

    def test_the_tokenizer_it_was_trained_with_is_exported(self):
        scratch = self.train("scratch", MODEL, self.folder / "gpt2")
        bb.run(1, "export", scratch, self.folder / "base")
        exported = (self.folder / "base/tokenizer.json").read_bytes()
        self.assertEqual(exported, (self.folder / "gpt2/tokenizer.json").read_bytes())
        # A base with one tokenizer is trained with another, which is given as a single file.
        tuned = self.train("tuned", f"{{base: {self.folder / 'base'}}}", self.folder / "llama2/tokenizer.json")
        bb.run(1, "export", tuned, self.folder / "out")
        self.assertEqual((self.folder / "out/tokenizer.json").read_bytes(),
                         (self.folder / "llama2/tokenizer.json").read_bytes())
        self.assertEqual(self.tokens(tuned), self.tokens(self.folder / "out"))
        self.assertNotEqual(self.tokens(tuned), self.tokens(scratch))

    def test_a_copy_in_the_run_comes_first(self):
        run = self.train("run", MODEL, self.folder / "gpt2")
        shutil.rmtree(run / "tokenizer", ignore_errors=True)
        shutil.copytree(self.folder / "llama2", run / "tokenizer")
        shutil.rmtree(self.folder / "gpt2")
        os.rename(run, self.folder / "moved")
        bb.run(1, "export", self.folder / "moved", self.folder / "out")
        self.assertEqual((self.folder / "out/tokenizer.json").read_bytes(),
                         (self.folder / "llama2/tokenizer.json").read_bytes())

    def test_runs_in_a_ring(self):
        data = tiny.documents(self.folder / "tokens.jsonl", (9, 9), vocabulary=1000)
        self.train("a", MODEL, data=data)
        shutil.copytree(self.folder / "a", self.folder / "first")
        # b is a child of a; then a is replaced by a child of b.
        self.train("b", f"{{base: {self.folder / 'a'}}}", data=data)
        shutil.rmtree(self.folder / "a")
        self.train("a", f"{{base: {self.folder / 'b'}}}", data=data)
        self.train("selfish", f"{{base: {self.folder / 'first'}}}", data=data)
        shutil.rmtree(self.folder / "first")
        os.rename(self.folder / "selfish", self.folder / "first")
        for run in ("a", "b", "first"):
            shutil.rmtree(self.folder / run / "tokenizer", ignore_errors=True)
            self.assertIn("comes back", self.tokens(self.folder / run, expect=65))
            done = bb.run(1, "export", self.folder / run, self.folder / "out", expect=65)
            self.assertIn("comes back", done.stderr)
            bb.run(1, "score", f"model={self.folder / run}", f"input={data}", f"output={self.folder / 'o'}")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
