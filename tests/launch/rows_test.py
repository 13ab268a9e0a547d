"""Compressed rows, folders and patterns: tokenize, train, score and evaluations read them like the plain file."""

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb
import tiny_model

TOKENIZERS = pathlib.Path(__file__).resolve().parents[1] / "golden/tokenizers"
TEMPLATE = "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }};{% endgeneration %}{% else %}U:{{ m.content }};{% endif %}{% endfor %}"


class Rows(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        rows = (cls.folder / "train.jsonl").read_text().splitlines(keepends=True)
        parts = cls.folder / "parts"
        (parts / "more").mkdir(parents=True)
        (parts / "a.jsonl.gz").write_bytes(gzip.compress("".join(rows[:20]).encode()) + gzip.compress("".join(rows[20:25]).encode()))
        (parts / "b.jsonl").write_text("".join(rows[25:40]))
        # A zstd frame of one raw block, written by hand as zstd does for incompressible data, so that no package is needed.
        body = "".join(rows[40:]).encode()
        frames = b""
        for at in range(0, len(body), 60000):
            block = body[at:at + 60000]
            frames += b"\x28\xb5\x2f\xfd\xa0" + len(block).to_bytes(4, "little") + ((len(block) << 3) | 1).to_bytes(3, "little") + block
        (parts / "more/c.jsonl.zst").write_bytes(frames)
        (parts / "README.md").write_text("about the parts")
        bb.run(1, "train", cls.config)
        cls.whole = bb.raw_fields(cls.folder / "run")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def refused(self, code, says, *arguments):
        done = bb.run(1, *arguments, expect=code)
        first = next(line for line in done.stderr.splitlines() if line.startswith("carillon: error: "))
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, first)

    def test_a_folder_trains_as_the_file_it_was_cut_from(self):
        for ranks, path in ((1, "parts"), (2, "parts"), (1, "part?"), (1, "train.jsonl.gz")):
            with self.subTest(ranks=ranks, path=path):
                if path == "train.jsonl.gz":
                    (self.folder / path).write_bytes(gzip.compress((self.folder / "train.jsonl").read_bytes()))
                shutil.rmtree(self.folder / "x", ignore_errors=True)
                done = bb.run(ranks, "train", self.config, f"data.train=[{{path: '{self.folder}/{path}'}}]", f"output={self.folder}/x",
                              *(["train.micro_batch_size=2"] if ranks == 2 else []))
                found = bb.raw_fields(self.folder / "x")
                if ranks == 1:
                    self.assertEqual(found, self.whole)
                for record, other in zip(found, self.whole, strict=True):
                    self.assertEqual(record[3:], other[3:])
                    self.assertAlmostEqual(float(record[1]), float(other[1]), places=9)
                self.assertIn("unpacked by gzip", done.stderr)
                log = (self.folder / "x/log.txt").read_text()
                if path != "train.jsonl.gz":
                    self.assertIn("3 files", log)
                    self.assertIn("left out 1: ", log)
                    self.assertIn("README.md", log)

    def test_tokenize_takes_them(self):
        for name, source in (("plain", "train.jsonl"), ("packed", "parts")):
            bb.run(1, "tokenize", self.folder / source, f"output={self.folder}/{name}.h5", "vocab_size=22")
        hashes = [json.loads(bb.run(1, "inspect", self.folder / f"{name}.h5", "--json").stdout)["content_hash"] for name in ("plain", "packed")]
        self.assertEqual(*hashes)

    def test_tokenize_reads_a_configuration_as_training_does(self):
        """Token ids need no tokenizer, whatever model.base is; a base's own is found in model files and runs."""
        tokens = self.folder / "of-config.h5"
        config = self.folder / "based.yaml"
        for base in (self.folder / "run", tiny_model.folder(self.folder / "no-tokenizer")):
            config.write_text(f"model: {{base: {base}}}\ndata: {{train: [{{path: {self.folder}/train.jsonl}}], sequence_length: 33}}\n"
                              f"train: {{max_steps: 1}}\noutput: {self.folder}/based\n")
            self.assertIn("64 documents", bb.run(1, "tokenize", config, f"output={tokens}").stdout)
        # Text: the tokenizer in a model file.
        text = json.loads(json.dumps(tiny_model.CONFIG)) | {"vocab_size": 49152}
        folder = tiny_model.folder(self.folder / "with-tokenizer", tiny_model.weights(1, text), text)
        shutil.copy(TOKENIZERS / "smollm/tokenizer.json", folder)
        bb.run(1, "import", folder, self.folder / "with-tokenizer.h5")
        (self.folder / "chat.jsonl").write_text(json.dumps({"messages": [
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi there"}]}) + "\n")
        for base in (folder, self.folder / "with-tokenizer.h5"):
            config.write_text(f"model: {{base: {base}}}\ndata: {{train: [{{path: {self.folder}/chat.jsonl}}], sequence_length: 33, "
                              f"train_on: all, chat_template: chatml}}\ntrain: {{max_steps: 1}}\noutput: {self.folder}/based\n")
            everything = bb.run(1, "tokenize", config, f"output={tokens}").stdout
            self.assertNotIn("are targets", everything)
            # What the command line says outranks the configuration, even where it says the default.
            self.assertIn("are targets", bb.run(1, "tokenize", config, f"output={tokens}", "train_on=assistant").stdout)
        # The remedy is a key that the command has.
        (self.folder / "plain.txt").write_text("hello\n")
        for rows in ("chat.jsonl", "plain.txt"):
            refused = bb.run(1, "tokenize", self.folder / rows, f"output={tokens}", expect=64).stderr
            self.assertIn("no tokenizer", refused)
            self.assertIn("or a command's own tokenizer", refused)

    def test_score_and_evaluations_take_them(self):
        scores = {}
        for source in ("train.jsonl", "parts", "parts/*"):
            for ranks in (1, 2):
                bb.run(ranks, "score", f"model={self.folder}/run", f"input={self.folder}/{source}", f"output={self.folder}/s.jsonl",
                       *(["parallel.context=2"] if ranks == 2 else []), "overwrite=true", "runtime.dtype=float64")
                scores[source, ranks] = [json.loads(line) for line in (self.folder / "s.jsonl").read_text().splitlines()]
        whole = scores["train.jsonl", 1]
        self.assertEqual([row["id"] for row in whole], list(range(64)))
        for rows in scores.values():
            self.assertEqual([row["id"] for row in rows], list(range(64)), "lines are numbered on")
            for row, other in zip(rows, whole):
                self.assertAlmostEqual(row["loss"], other["loss"], places=11)
        losses = []
        for source in ("train.jsonl", "parts"):
            output = self.folder / f"eval-{source}"
            (self.folder / "s.yaml").write_text(f"models: [{self.folder}/run]\nlengths: [33]\ntasks: [{{task: perplexity}}]\n"
                                                f"data: {{validation: [{{path: {self.folder}/{source}}}]}}\nruntime: {{dtype: float64}}\n"
                                                f"checkpoints: newest\noutput: {output}\n")
            bb.run(1, "sweep", self.folder / "s.yaml")
            losses.append(json.loads((output / "evals.jsonl").read_text().splitlines()[0])["metrics"]["loss"])
        self.assertEqual(*losses)

    def test_damage_is_named_with_file_and_line(self):
        whole = (self.folder / "parts/a.jsonl.gz").read_bytes()
        bad = self.folder / "bad.jsonl.gz"
        for data in (whole[:-9], whole[:len(whole) // 2], whole[:300] + b"\0\xff\0" + whole[303:], b"{}", b""):
            bad.write_bytes(data)
            for arguments in (["tokenize", bad, f"output={self.folder}/z.h5", "vocab_size=22"],
                              ["train", self.config, f"data.train=[{{path: {bad}}}]", f"output={self.folder}/z"],
                              ["score", f"model={self.folder}/run", f"input={bad}", f"output={self.folder}/z.jsonl"]):
                with self.subTest(arguments[0], size=len(data)):
                    self.refused(65, ["bad.jsonl.gz:", "gzip"], *arguments)
            for left in ("z.h5", "z", "z.jsonl"):
                self.assertFalse((self.folder / left).exists(), left)
        self.refused(66, "none-*.jsonl", "train", self.config, f"data.train=[{{path: {self.folder}/none-*.jsonl}}]", f"output={self.folder}/z")
        (self.folder / "hollow").mkdir(exist_ok=True)
        self.refused(66, "hollow", "tokenize", self.folder / "hollow", f"output={self.folder}/z.h5")

    def test_a_new_file_in_the_folder_is_seen_and_a_cache_never_stale(self):
        parts = self.folder / "growing"
        parts.mkdir()
        rows = (self.folder / "train.jsonl").read_text().splitlines(keepends=True)
        environment = {"CARILLON_CACHE": str(self.folder / "cache-growing")}
        keys = [f"data.train=[{{path: {parts}}}]", "data.shuffle=false", "train.max_steps=1", "train.micro_batch_size=2"]

        def first_loss(name):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            bb.run(1, "train", self.config, *keys, f"output={self.folder}/{name}", environment=environment)
            return bb.raw_fields(self.folder / name)

        (parts / "b.jsonl.gz").write_bytes(gzip.compress("".join(rows[:4]).encode()))
        before = first_loss("g")
        self.assertEqual(first_loss("g"), before)
        self.assertEqual(len(list((self.folder / "cache-growing").iterdir())), 1, "found again")
        (parts / "a.jsonl").write_text("".join(rows[4:8]))  # sorts before
        self.assertNotEqual(first_loss("g"), before)
        # Same size and time, different content.
        os.utime(parts / "a.jsonl", (1, 1))
        grown = first_loss("g")
        text = (parts / "a.jsonl").read_text()
        (parts / "a.jsonl").write_text("".join(rows[8:12])[:len(text)].ljust(len(text)) if len("".join(rows[8:12])) >= len(text) else "".join(rows[8:12]).ljust(len(text)))
        os.utime(parts / "a.jsonl", (1, 1))
        self.assertNotEqual(first_loss("g"), grown)

    def test_a_pipe_in_the_cache_is_replaced(self):
        cache = self.folder / "cache-pipe"
        arguments = ["train", self.config, f"data.train=[{{path: {self.folder}/parts}}]", "train.max_steps=1"]
        bb.run(1, *arguments, f"output={self.folder}/pipe-1", environment={"CARILLON_CACHE": str(cache)})
        (entry,) = cache.iterdir()
        entry.unlink()
        os.mkfifo(entry)
        bb.run(1, *arguments, f"output={self.folder}/pipe-2", environment={"CARILLON_CACHE": str(cache)}, timeout=60)
        self.assertTrue(entry.is_file())
        self.assertEqual(bb.raw_fields(self.folder / "pipe-1"), bb.raw_fields(self.folder / "pipe-2"))

    def test_two_runs_at_once_share_a_cache(self):
        environment = {"CARILLON_CACHE": str(self.folder / "cache-shared"), "OMP_NUM_THREADS": "1"}
        runs = [bb.start(1, "train", self.config, f"data.train=[{{path: {self.folder}/parts}}]", f"output={self.folder}/both-{i}", "train.max_steps=2",
                         environment=environment) for i in range(3)]
        for i, process in enumerate(runs):
            self.assertEqual(process.wait(timeout=120), 0, process.stderr.read())
            process.stdout.close()
            process.stderr.close()
        self.assertEqual(len({tuple(bb.raw_fields(self.folder / f"both-{i}")) for i in range(3)}), 1)
        self.assertEqual(len(list((self.folder / "cache-shared").iterdir())), 1)

    def test_score_takes_conversations(self):
        (self.folder / "chat.jinja").write_text(TEMPLATE)
        (self.folder / "c.yaml").write_text(f"""
model: {{vocab_size: 2000, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
data: {{train: [{{path: {self.folder}/chat.jsonl}}], sequence_length: 64, tokenizer: {TOKENIZERS / "gpt2"}, chat_template: {self.folder}/chat.jinja}}
train: {{max_steps: 1}}
output: {self.folder}/chat-run
""")
        row = {"messages": [{"role": "user", "content": "Wie geht es?"}, {"role": "assistant", "content": "Gut, danke."}], "id": {"a": [1]}}
        (self.folder / "chat.jsonl").write_text(json.dumps(row) + "\n")
        (self.folder / "text.jsonl").write_text(json.dumps({"text": "U:Wie geht es?;A:Gut, danke.;"}) + "\n")
        bb.run(1, "train", self.folder / "c.yaml")
        for name in ("chat", "text"):
            bb.run(1, "score", f"model={self.folder}/chat-run", f"input={self.folder}/{name}.jsonl", f"output={self.folder}/{name}-s.jsonl",
                   f"chat_template={self.folder}/chat.jinja")
        chat, text = (json.loads((self.folder / f"{name}-s.jsonl").read_text()) for name in ("chat", "text"))
        self.assertEqual(chat["id"], {"a": [1]})
        self.assertEqual(text["id"], 0)
        self.assertEqual(chat["logprobs"], text["logprobs"])
        self.refused(64, "chat template", "score", f"model={self.folder}/chat-run", f"input={self.folder}/chat.jsonl",
                     f"output={self.folder}/none.jsonl")

    def test_generate_goes_on_from_conversations(self):
        """Rows of messages are prompts, followed by the generation prompt; so is a row's `prompt`."""
        template = self.folder / "prompt.jinja"
        template.write_text(TEMPLATE + "{% if add_generation_prompt %}A:{% endif %}")
        (self.folder / "g.yaml").write_text(f"""
model: {{vocab_size: 420, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
data: {{train: [{{path: {self.folder}/g.jsonl}}], sequence_length: 64, tokenizer: {TOKENIZERS / "gpt2"}}}
train: {{max_steps: 1}}
output: {self.folder}/g-run
""")
        text = "U:Wie geht es?;A:"
        (self.folder / "g.jsonl").write_text(json.dumps({"text": text}) + "\n")
        bb.run(1, "train", self.folder / "g.yaml")
        user = [{"role": "user", "content": "Wie geht es?"}]

        def generate(name, row, *keys, expect=0):
            (self.folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
            return bb.run(1, "generate", f"model={self.folder}/g-run", f"input={self.folder}/{name}.jsonl", "max_new_tokens=8",
                          "stop_at_end=false", *keys, expect=expect)
        expected = json.loads(generate("g-text", {"text": text}).stdout)
        for name, row in (("messages", {"messages": user, "id": "x"}), ("prompt", {"prompt": user}),
                          ("both", {"prompt": user, "completion": [{"role": "assistant", "content": "Gut."}]}),
                          ("share", {"conversations": [{"from": "human", "value": "Wie geht es?"}]})):
            with self.subTest(name):
                got = json.loads(generate(f"g-{name}", row, f"chat_template={template}").stdout)
                self.assertEqual((got["id"], got["tokens"]), ("x" if name == "messages" else 0, expected["tokens"]))
        self.assertEqual(json.loads(generate("g-plain", {"prompt": text}).stdout)["tokens"], expected["tokens"])
        ended = {"messages": [*user, {"role": "assistant", "content": "Gut."}]}
        self.assertIn("g-ended.jsonl:1", generate("g-ended", ended, f"chat_template={template}", expect=65).stderr)
        self.assertIn("chat_template", generate("g-none", {"messages": user}, expect=64).stderr)

    def test_validation_rows_may_be_conversations(self):
        """The validation loss on conversations is that of the assistant's tokens."""
        (self.folder / "chat.jinja").write_text(TEMPLATE)
        row = {"messages": [{"role": "user", "content": "one two three four"}, {"role": "assistant", "content": "five six"}]}
        (self.folder / "v.jsonl").write_text(json.dumps(row) + "\n")
        counts = {}
        for train_on in ("assistant", "all"):
            (self.folder / "v.yaml").write_text(f"""
model: {{vocab_size: 2000, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
data: {{train: [{{path: {self.folder}/v.jsonl}}], validation: [{{path: {self.folder}/v.jsonl}}], sequence_length: 64,
  tokenizer: {TOKENIZERS / "gpt2"}, chat_template: {self.folder}/chat.jinja, train_on: {train_on}}}
train: {{max_steps: 1}}
eval: {{at_end: true}}
output: {self.folder}/v-{train_on}
""")
            bb.run(1, "train", self.folder / "v.yaml")
            record = json.loads((self.folder / f"v-{train_on}/evals.jsonl").read_text())
            self.assertEqual(record["status"], "ok", record)
            counts[train_on] = record["metrics"]["tokens"]
            self.assertEqual(counts[train_on], bb.metrics(self.folder / f"v-{train_on}")[0]["tokens"])
        self.assertLess(counts["assistant"], counts["all"])


if __name__ == "__main__":
    unittest.main()
