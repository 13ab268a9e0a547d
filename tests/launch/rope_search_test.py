"""`carillon rope search` on a tiny model: its result is usable and better than the seeds; and it is the same after a kill,
on another layout, and when started again."""

import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder


class RopeSearch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        draw = random.Random(2)
        cls.documents = [[draw.randrange(61) for _ in range(96)] for _ in range(3)]
        (cls.folder / "data.jsonl").write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cls.documents))
        cls.model = golden_folder.make(cls.folder, "model", "llama", {**cases.ARCHITECTURES["llama"], "max_position_embeddings": 24})
        cls.config = cls.folder / "search.yaml"
        cls.config.write_text(f"""
model: {cls.model}
length: 96
data: {{validation: [{{path: {cls.folder}/data.jsonl}}]}}
search: {{population: 12, iterations: 4, parents: 6, mutations: 5, crossovers: 5}}
runtime: {{dtype: float64}}
output: {cls.folder}/straight
""")
        cls.printed = bb.run(1, "rope", "search", cls.config).stdout

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def records(self, name):
        return [json.loads(line) for line in (self.folder / name / "search.jsonl").read_text().splitlines()]

    def search(self, name, *keys, ranks=1, expect=0):
        return bb.run(ranks, "rope", "search", self.config, f"output={self.folder}/{name}", *keys, expect=expect)

    def perplexity(self, *rope):
        task = {"task": "perplexity", "data": [{"path": f"{self.folder}/data.jsonl"}]}
        done = bb.run(1, "eval", f"model={self.model}", "length=96", f"task={json.dumps(task)}", "runtime.dtype=float64", *rope)
        return json.loads(done.stdout)["metrics"]["loss"]

    def test_what_it_finds_is_what_it_says(self):
        records = self.records("straight")
        best = min(records, key=lambda record: record["loss"])
        self.assertLess(best["loss"], min(record["loss"] for record in records[:3]), "better than YaRN, NTK and linear")
        for record in records:
            self.assertEqual(record["factors"], sorted(record["factors"]))
            self.assertAlmostEqual(math.log(record["perplexity"]), record["loss"], places=12)
        factors = json.dumps(best["factors"])
        rope = ["rope.type=longrope", "rope.factor=4", f"rope.short_factor={factors}", f"rope.long_factor={factors}"]
        self.assertAlmostEqual(self.perplexity(*rope), best["loss"], places=12)
        # The file is a section of a configuration.
        run = self.folder / "run.yaml"
        run.write_text(f"model: {{base: {self.model}}}\ndata: {{train: [{{path: {self.folder}/data.jsonl}}], sequence_length: 96}}\n"
                       f"train: {{max_steps: 1}}\noutput: {self.folder}/run\n" + (self.folder / "straight/best.yaml").read_text())
        self.assertIn("longrope", bb.run(1, "train", run).stderr)
        self.assertIn(f"{math.exp(best['loss']):.6g}", self.printed)
        # The first three candidates are the divisors of YaRN, NTK and linear.
        self.assertEqual(records[2]["factors"], [4.0] * 4)
        self.assertAlmostEqual(records[1]["factors"][-1], 4, places=12)
        yarn = json.loads(bb.run(1, "rope", "--json", "rope.type=yarn", "rope.factor=4", "rope.base=100", "model.head_dim=8",
                                 "rope.original_max_position_embeddings=24").stdout)
        for pair, factor in zip(yarn["pairs"], records[0]["factors"], strict=True):
            self.assertAlmostEqual(100.0 ** (-2 * pair["pair"] / 8) / pair["theta"], factor, places=12)

    def test_a_second_search_forgets_nothing_better(self):
        shutil.copytree(self.folder / "straight", self.folder / "twice")
        best = (self.folder / "twice/best.yaml").read_text()
        done = self.search("twice", "search.iterations=0")
        self.assertEqual((self.folder / "twice/best.yaml").read_text(), best)
        self.assertIn("an earlier search in this folder found", done.stdout)

    def test_killed_stopped_and_started_again_it_is_the_same(self):
        straight = (self.folder / "straight/search.jsonl").read_text()
        process = bb.start(1, "rope", "search", self.config, f"output={self.folder}/killed")
        path = self.folder / "killed/search.jsonl"
        deadline = time.monotonic() + 60
        while (not path.exists() or path.read_text().count("\n") < 4) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.communicate()
        with path.open("a") as file:
            file.write('{"search": "cut')
        self.search("killed")
        self.assertEqual(path.read_text(), straight)
        before = path.stat().st_mtime_ns
        again = self.search("killed")
        self.assertEqual(again.stdout.replace("killed", "straight"), self.printed)
        self.assertEqual(path.stat().st_mtime_ns, before, "nothing is looked at twice")
        self.search("killed", "search.iterations=5")
        self.assertTrue(path.read_text().startswith(straight))

    def test_layouts_find_the_same(self):
        for ranks, keys in ((2, ["parallel.context=2"]), (2, ["parallel.tensor=2"]), (2, ["parallel.data=2"])):
            name = f"layout-{keys[0]}"
            self.search(name, *keys, ranks=ranks)
            for here, there in zip(self.records(name), self.records("straight"), strict=True):
                self.assertEqual(here["factors"], there["factors"])
                self.assertAlmostEqual(here["loss"], there["loss"], delta=1e-10)

    def test_what_cannot_be_searched_is_refused(self):
        self.assertIn("another", self.search("straight", "length=90", expect=64).stderr)
        self.assertIn("rope.factor", self.search("refused", "length=24", expect=64).stderr)
        self.assertIn("rope.type", self.search("refused", "rope.type=yarn", expect=64).stderr)
        self.assertIn("search.parents", self.search("refused", "search.parents=0", expect=64).stderr)
        self.assertIn("data.validation", self.search("refused", "data.validation=[]", expect=64).stderr)
        bb.run(1, "rope", "search", self.folder / "nothing.yaml", expect=66)
        bb.run(1, "rope", "search", expect=64)
        bb.run(1, "rope", self.config, expect=64)
        shutil.copytree(self.folder / "straight", self.folder / "broken")
        (self.folder / "broken/search.jsonl").write_text('{"loss": 1}\n')
        self.assertIn("search.jsonl:1", self.search("broken", expect=65).stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
