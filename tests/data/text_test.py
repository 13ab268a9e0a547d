"""Text through the program: bits per byte count every byte of the source once; a missing end token is reported."""

import json
import math
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

TOKENIZERS = pathlib.Path(__file__).resolve().parents[1] / "golden/tokenizers"
TEXT = " Ein Cafe\u0301 in 東京 🙂🙂<|endoftext|> Ελληνικά\u00a0и кириллица;\n\n the end of it. "


class Text(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        (self.folder / "t.jsonl").write_text(json.dumps({"text": TEXT}) + "\n")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def scored_bytes(self, tokenizer, window):
        """By length: the number of scored tokens, and the bytes by which bits_per_byte divides."""
        model = self.folder / f"m-{tokenizer}"
        if not model.exists():
            (self.folder / "c.yaml").write_text(f"""
model: {{vocab_size: 2000, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
data: {{train: [{{path: {self.folder}/t.jsonl}}], sequence_length: 64, tokenizer: {TOKENIZERS / tokenizer}}}
train: {{max_steps: 1}}
output: {self.folder}/run-{tokenizer}
""")
            bb.run(1, "train", self.folder / "c.yaml")
            bb.run(1, "export", self.folder / f"run-{tokenizer}", model)
            shutil.copy(TOKENIZERS / tokenizer / "tokenizer.json", model)
        output = self.folder / f"sweep-{tokenizer}-{window}"
        (self.folder / "s.yaml").write_text(f"""
models: [{model}]
lengths: [5, 512]
tasks: [{{task: perplexity, window: {window}, stride: 1, data: [{{path: {self.folder}/t.jsonl}}]}}]
output: {output}
""")
        bb.run(1, "sweep", self.folder / "s.yaml")
        found = {}
        for line in (output / "evals.jsonl").read_text().splitlines():
            record = json.loads(line)
            metrics = record["metrics"]
            found[record["length"]] = (metrics["tokens"], metrics["loss"] * metrics["tokens"] / math.log(2) / metrics["bits_per_byte"])
        return found

    def test_windows_count_every_byte_once(self):
        for tokenizer, first in (("gpt2", 1), ("qwen2", 1), ("llama3", 0), ("llama2", 0)):
            with self.subTest(tokenizer):
                found = self.scored_bytes(tokenizer, "sliding")
                self.assertEqual(found[5][0], found[512][0])
                for tokens, count in found.values():  # without a beginning-of-text token the first token is not scored
                    self.assertAlmostEqual(count, len(TEXT.encode()) - first, places=6)

    def test_blocks_leave_out_the_first_token_of_each(self):
        found = self.scored_bytes("llama3", "blocks")
        self.assertLess(found[5][1], found[512][1])

    def test_an_absent_end_token_is_said(self):
        shutil.copytree(TOKENIZERS / "smollm", self.folder / "t")
        words = ["tokenize", self.folder / "t.jsonl", f"tokenizer={self.folder}/t", f"output={self.folder}/o.h5"]
        said = bb.run(1, *words).stderr
        self.assertIn("no end-of-document token", said)
        self.assertIn("generation_config.json (absent)", said)
        (self.folder / "t/generation_config.json").write_text('{"eos_token_id": [1]}')
        (self.folder / "o.h5").unlink()
        self.assertEqual(bb.run(1, *words).stderr, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
