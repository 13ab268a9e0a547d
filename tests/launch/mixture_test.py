"""Sources drawn by weight: shares, records, resume and layouts; which tokens of a source are trained; a changed template."""

import json
import pathlib
import random
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

TOKENIZERS = pathlib.Path(__file__).resolve().parents[1] / "golden/tokenizers"


class Mixture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        cls.epochs = cls.folder / "epochs.yaml"
        cls.epochs.write_text(cls.config.read_text().replace("max_steps: 12", "epochs: 2"))
        source = random.Random(3)
        # Each source has rows of one length, so the number of targets reveals how many of its sequences a step took.
        cls.targets = {"long": 32, "short": 16, "mid": 20}
        for name, targets in cls.targets.items():
            rows = [[source.randrange(22) for _ in range(targets + 1)] for _ in range(7)]
            (cls.folder / f"{name}.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def sources(self, **weights):
        entries = [f"{{path: {self.folder}/{name}.jsonl, name: {name}, weight: {weight}}}" for name, weight in weights.items()]
        return f"data.train=[{', '.join(entries)}]"

    def train(self, name, *keys, ranks=1, fresh=True, expect=0, config=None):
        if fresh:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return bb.run(ranks, "train", config or self.config, "train.lr_scheduler=constant", *keys, f"output={self.folder}/{name}", expect=expect)

    def drawn(self, name):
        """Sequences per source after each step."""
        counts, after = dict.fromkeys(self.targets, 0), []
        for record in bb.metrics(self.folder / name):
            self.assertEqual(sum(record["tokens_by_source"].values()), record["tokens"])
            for source, tokens in record["tokens_by_source"].items():
                self.assertEqual(tokens % self.targets[source], 0)
                counts[source] += tokens // self.targets[source]
            after.append(dict(counts))
        return after

    def test_shares_are_within_one_sequence(self):
        weights = {"long": 0.55, "short": 0.3, "mid": 0.15}
        done = self.train("a", self.sources(**weights), "train.max_steps=30", "train.micro_batch_size=3")
        for step, counts in enumerate(self.drawn("a"), 1):
            self.assertEqual(sum(counts.values()), 3 * step)
            for source, count in counts.items():
                self.assertLess(abs(count - 3 * step * weights[source]), 1, (step, counts))
        self.assertGreater(counts["long"], 2 * 7, "a source that is used up starts anew")
        log = (self.folder / "a/log.txt").read_text()
        for source in weights:
            self.assertIn(source, log)
        self.assertRegex(done.stderr, r"long \d+%, short \d+%, mid \d+%")
        page = (self.folder / "a/report.html").read_text()
        tokens = sum(record["tokens_by_source"]["mid"] for record in bb.metrics(self.folder / "a"))
        self.assertIn(f"<td>mid</td><td>{tokens}</td>", page)
        # Different weights draw differently, so the counts above are not an accident of the files.
        self.train("b", self.sources(long=1, short=1, mid=1), "train.max_steps=4", "train.micro_batch_size=3")
        self.assertEqual(self.drawn("b")[-1], {"long": 4, "short": 4, "mid": 4})

    def test_every_layout_and_a_resume_draw_the_same(self):
        keys = [self.sources(long=5, short=2, mid=1.5), "train.max_steps=8", "checkpoint.every_steps=3"]
        names = ("step", "tokens", "tokens_total", "tokens_by_source")
        self.train("whole", *keys, "train.micro_batch_size=4")
        whole, losses = bb.raw_fields(self.folder / "whole", names), [record["loss"] for record in bb.metrics(self.folder / "whole")]
        for ranks, layout in ((1, ["train.micro_batch_size=1", "train.gradient_accumulation_steps=4"]),
                              (2, ["train.micro_batch_size=2", "parallel.data=2"]),
                              (2, ["train.micro_batch_size=4", "parallel.context=2"]),
                              (4, ["train.micro_batch_size=2", "parallel.data=2", "parallel.tensor=2"])):
            with self.subTest(layout=layout):
                self.train("other", *keys, *layout, ranks=ranks)
                self.assertEqual(bb.raw_fields(self.folder / "other", names), whole)
                for record, loss in zip(bb.metrics(self.folder / "other"), losses):
                    self.assertAlmostEqual(record["loss"], loss, places=9)
        # Stopped in the middle and resumed on another layout: the same as without the stop.
        self.train("cut", self.sources(long=5, short=2, mid=1.5), "train.max_steps=3", "train.micro_batch_size=4")
        self.train("cut", *keys, "train.micro_batch_size=2", "parallel.data=2", ranks=2, fresh=False)
        self.assertEqual(bb.raw_fields(self.folder / "cut", names), whole)
        for record, loss in zip(bb.metrics(self.folder / "cut"), losses):
            self.assertAlmostEqual(record["loss"], loss, places=9)
        # The control: a run with another seed has other losses.
        self.train("cut", *keys, "train.micro_batch_size=4", "train.seed=6")
        self.assertNotEqual([record["loss"] for record in bb.metrics(self.folder / "cut")], losses)

    def test_a_source_s_order_does_not_depend_on_the_others(self):
        """The same source alone and in a mixture yields its rows in the same order, identified by their numbers of targets."""
        rows = [[1] * (2 + i) for i in range(12)]
        (self.folder / "steps.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))
        seen = {}
        for name, other in (("x", "long"), ("y", "mid")):
            self.train(name, f"data.train=[{{path: {self.folder}/steps.jsonl, name: steps, weight: 1}}, {{path: {self.folder}/{other}.jsonl, weight: 2}}]",
                       "train.max_steps=90", "train.micro_batch_size=1", "train.learning_rate=0", "checkpoint.every_steps=~")
            seen[name] = [record["tokens_by_source"]["steps"] for record in bb.metrics(self.folder / name) if record["tokens_by_source"]["steps"]]
        self.assertEqual(len(seen["x"]), 30)
        self.assertEqual(seen["x"], seen["y"])
        for epoch in (seen["x"][:12], seen["x"][12:24]):
            self.assertEqual(sorted(epoch), list(range(1, 13)))
        self.assertNotEqual(seen["x"][:12], seen["x"][12:24], "shuffled anew")

    def test_names_alone_change_nothing_but_the_records(self):
        entries = [f"{{path: {self.folder}/{name}.jsonl}}" for name in self.targets]
        self.train("plain", f"data.train=[{', '.join(entries)}]", config=self.epochs)
        named = entries[:1] + [entries[1].replace("}", ", name: short}")] + entries[2:]
        self.train("named", f"data.train=[{', '.join(named)}]", config=self.epochs)
        self.assertEqual(bb.raw_fields(self.folder / "plain"), bb.raw_fields(self.folder / "named"))
        self.assertNotIn("tokens_by_source", bb.metrics(self.folder / "plain")[0])
        last = bb.metrics(self.folder / "named")[-1]
        self.assertEqual(set(last["tokens_by_source"]), {f"{self.folder}/long.jsonl", "short", f"{self.folder}/mid.jsonl"})
        self.assertEqual(sum(last["tokens_by_source"].values()), last["tokens"])

    def test_what_makes_no_sense_is_refused(self):
        path = f"path: {self.folder}/long.jsonl"
        for says, keys in ((["epochs", "weights"], [f"data.train=[{{{path}, weight: 2}}]", "EPOCHS"]),
                           ("weight", [f"data.train=[{{{path}, weight: 0}}]"]), ("weight", [f"data.train=[{{{path}, weight: -1}}]"]),
                           ("weight", [f"data.train=[{{{path}, weight: .nan}}]"]), ("weight", [f"data.train=[{{{path}, wieght: 1}}]"]),
                           ("long.jsonl", [f"data.train=[{{{path}, weight: 2}}, {{{path}}}]"]),
                           ("18 digits", [f"data.train=[{{{path}, weight: 1e-30}}, {{path: {self.folder}/mid.jsonl}}]"]),
                           ("weight", [f"data.validation=[{{{path}, weight: 2}}]"])):
            with self.subTest(keys):
                config = self.epochs if "EPOCHS" in keys else None
                done = self.train("none", *(key for key in keys if key != "EPOCHS"), expect=64, config=config)
                for text in [says] if isinstance(says, str) else says:
                    self.assertIn(text, done.stderr)
                self.assertFalse((self.folder / "none").exists())

    def test_the_log_says_what_is_trained(self):
        (self.folder / "dumb.jsonl").write_text('{"tokens":[1,2,3],"loss_mask":[1,0,0]}\n{"tokens":[4]}\n')
        for again in (False, True):  # the second time from the cache
            done = self.train("t", f"data.train=[{{path: {self.folder}/dumb.jsonl}}, {{path: {self.folder}/mid.jsonl}}]", "train.max_steps=1")
            warnings = [line for line in done.stderr.splitlines() if line.startswith("carillon: warning: nothing of ")]
            self.assertEqual(len(warnings), 1, done.stderr)
            self.assertIn("dumb.jsonl", warnings[0])
            log = (self.folder / "t/log.txt").read_text()
            self.assertIn("dumb.jsonl: 2 documents, 0 of 4 tokens are trained", log)
            self.assertIn("mid.jsonl: 7 documents, 140 of 147 tokens are trained", log)

    def test_another_chat_template_is_said_on_resume(self):
        folder = self.folder
        (folder / "t.jinja").write_text("{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}")
        (folder / "c.jsonl").write_text(json.dumps({"messages": [{"role": "assistant", "content": "three words here"}]}) + "\n")
        (folder / "text.jsonl").write_text(json.dumps({"text": "three words here"}) + "\n")
        for rows, changed in (("c", True), ("text", False)):
            (folder / "c.yaml").write_text(f"""
model: {{vocab_size: 2000, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
data: {{train: [{{path: {folder}/{rows}.jsonl}}], sequence_length: 64, tokenizer: {TOKENIZERS / "gpt2"}, chat_template: {folder}/t.jinja}}
train: {{max_steps: 1}}
output: {folder}/c-{rows}
""")
            bb.run(1, "train", folder / "c.yaml")
            same = bb.run(1, "train", folder / "c.yaml", "train.max_steps=2")
            self.assertNotIn("the data changed", same.stderr)
            whole = (folder / "t.jinja").read_text()
            (folder / "t.jinja").write_text(whole.replace(":", "> "))
            other = bb.run(1, "train", folder / "c.yaml", "train.max_steps=3")
            (self.assertIn if changed else self.assertNotIn)("the chat template is another one", other.stderr)
            (folder / "t.jinja").write_text(whole)


if __name__ == "__main__":
    unittest.main()
