"""The scripts of the experiments at a small size, from data to tables: reproduce_test.py Language | SmolLM2 | PosGen"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "support"), str(ROOT / "launch" / "experiments")]
import black_box as bb
import english_text

METHODS = """# the script's table in small
yarn            rope.type=yarn rope.factor=FACTOR
resonance_yarn  rope.type=yarn rope.factor=FACTOR rope.resonance=true
none            rope.type=default rope.factor=null
yarn_short      rope.type=yarn rope.factor=FACTOR data.sequence_length=ORIGINAL train.micro_batch_size=ROWS
skipalign       rope.type=yarn rope.factor=FACTOR data.train=PASSAGES data.sequence_length=ORIGINAL train.micro_batch_size=ROWS data.positions=skipalign data.positions_length=LENGTH
"""


def words(draw, count):
    """Sentences of which half the words are among the most common in English."""
    common = sorted(english_text.COMMON)
    text = ""
    for _ in range(count):
        sentence = [draw.choice(common) if draw.random() < 0.5 else "".join(draw.choices("etaoinshr", k=draw.randrange(3, 9)))
                    for _ in range(draw.randrange(6, 14))]
        text += " ".join(sentence).capitalize() + ("." if draw.random() < 0.8 else ".\n\n")
    return text


def texts_in(folder, count):
    """`count` documents of 12 kB, one more that repeats two of them, and one without words."""
    folder.mkdir()
    draw = random.Random(3)
    for number in range(count):
        (folder / f"{number}.txt").write_text(words(draw, 260))
    (folder / "again.txt").write_text((folder / "7.txt").read_text() + "\n\n" + (folder / "8.txt").read_text())
    (folder / "numbers.txt").write_text("\n\n".join(str(draw.random()) for _ in range(2000)))


class Script(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.out = self.folder / "out"
        self.environment = {**os.environ, "CARILLON": bb.CARILLON, "OUT": str(self.out), **self.settings()}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def start(self, *arguments):
        return subprocess.Popen(["bash", str(ROOT / "launch" / self.script), *arguments], env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def to_the_end(self, *arguments):
        process = self.start(*arguments)
        output = process.communicate(timeout=600)[0]
        self.assertEqual(process.returncode, 0, output)
        return output


class Language(Script):
    script = "reproduce_language.sh"

    def settings(self):
        texts_in(self.folder / "texts", 60)
        methods = self.folder / "methods.txt"
        methods.write_text(METHODS)
        return {"TEXTS": str(self.folder / "texts"), "VOCABULARY": "257", "SHORT": "32", "SEEDS": "2", "HEADS": "64", "BASES": "10000",
                "FACTORS": "4", "STEPS": "10", "SHORT_TOKENS": "256", "EXTEND_STEPS": "2", "EXTEND_TOKENS": "256", "JOBS": "2",
                "METHODS": str(methods), "KEYS": "checkpoint.every_steps=1"}

    def test_goes_on_and_ends_in_tables(self):
        first = self.start()
        record = self.out / "head64-base10000" / "short" / "none-1" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (record.exists() and record.read_text()) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
        self.assertIn("0 of 2", self.status("base"), first.communicate()[0])

        self.to_the_end()
        self.assertIn("2 of 2", self.status("base"))
        self.assertIn("10 of 10", self.status("extended ×4"))
        self.assertIn("8 of 8", self.status("from the start"))
        # The duplicate and the document without words are dropped; held-out documents are not trained on.
        ids = {part: [json.loads(line)["id"] for line in (self.out / "text" / f"{part}.jsonl").read_text().splitlines()]
               for part in ("train", "validation", "test")}
        self.assertEqual(len(sum(ids.values(), [])), 60)
        self.assertFalse({"texts again.txt", "texts numbers.txt"} & set(sum(ids.values(), [])))
        self.assertGreater(len(ids["test"]), 1)

        tables = self.to_the_end("tables")
        extended = tables[tables.index("### extended ×4"):tables.index("### trained from the start")]
        row, = [line.split("|") for line in extended.splitlines() if line.startswith("| resonance_yarn ")]
        self.assertEqual(row[2].strip(), "2")
        # The paired difference at 256 tokens, from the sweep's records. All test documents are longer, so they have equal
        # weight.
        records = [json.loads(line) for line in
                   (self.out / "head64-base10000" / "extended-x4" / "sweep" / "evals.jsonl").read_text().splitlines()]
        loss = {(pathlib.Path(r["model"]).name, r["length"]): r["metrics"]["loss"] for r in records}
        self.assertEqual(len(loss), 10 * 3)
        # A method's keys replace those of the script.
        for name, expected in (("yarn", "128"), ("yarn_short", "32")):
            config = (self.out / "head64-base10000" / "extended-x4" / f"{name}-1" / "config.yaml").read_text()
            self.assertEqual(re.findall(r"sequence_length: (\d+)", config), [expected])
        # Rows of a prompt and its completion lose no text, and every second half is trained.
        source, = [json.loads(line)["text"] for line in (self.out / "text" / "train.jsonl").read_text().splitlines()][:1]
        rows = [json.loads(line) for line in (self.out / "text" / "passages.jsonl").read_text().splitlines()]
        text = "".join(row["prompt"] + row["completion"] for row in rows)
        self.assertGreater(len(source) // 96, 10)
        self.assertTrue(text.startswith(source[:len(source) - 96]))
        expected = sum(loss[f"resonance_yarn-{seed}", 256] - loss[f"yarn-{seed}", 256] for seed in (1, 2)) / 2
        self.assertAlmostEqual(float(row[8].split("±")[0]), expected, delta=1e-5)
        self.assertIn("±", row[9])
        self.assertEqual(extended.count("| 128–"), 1)

        # The slope of the loss at the end, from the run's records.
        row, = [line.split("|") for line in tables.splitlines() if line.startswith("| head64-base10000/short/none-1 ")]
        losses = [step["loss"] for step in bb.metrics(record.parent)]
        self.assertAlmostEqual(float(row[4]), losses[-1], delta=1e-3)
        self.assertAlmostEqual(float(row[5]), losses[-1] - losses[-2], delta=1e-3)

        again = self.to_the_end()
        self.assertNotIn("begins", again)
        self.assertEqual(again.count("### extended ×4"), 1)

    def status(self, what):
        line, = [line for line in self.to_the_end("status").splitlines() if line.startswith("| 64 ") and f"| {what} |" in line]
        return line


class SmolLM2(Script):
    script = "reproduce_smollm2.sh"

    def settings(self):
        texts_in(self.folder / "texts", 40)
        (self.folder / "train.jsonl").write_text(json.dumps({"text": words(random.Random(1), 20)}) + "\n")
        tokenizer, model = self.folder / "tokenizer", self.folder / "model"
        subprocess.run([sys.executable, ROOT / "launch" / "experiments" / "vocabulary.py", self.folder / "train.jsonl", tokenizer, "257"],
                       check=True)
        bb.run(1, "train", bb.tiny_run(self.folder / "tiny", count=4), "model.vocab_size=257", f"data.tokenizer={tokenizer}",
               f"data.train=[{{path: {self.folder}/train.jsonl}}]", "rope.type=default", "rope.resonance=false", "train.max_steps=1",
               f"output={self.folder}/run")
        bb.run(1, "export", self.folder / "run", model, "format=hf")
        for file in tokenizer.iterdir():
            shutil.copy(file, model)
        return {"MODEL": str(model), "TEXTS": str(self.folder / "texts"), "LONG": "10000", "STEPS": "2", "LENGTH": "128", "ORIGINAL": "64",
                "LENGTHS": "512, 1k", "BOOKS": "4", "TRIALS": "1", "SEEDS": "2", "EVALUATOR": str(model)}

    def test_compares_trained_and_untrained(self):
        self.to_the_end()
        for sweep in ("trained/sweep", "untrained"):
            found = json.loads((self.out / sweep / "comparisons.json").read_text())
            compared = {(pathlib.PurePath(entry["model"]).name, entry["rope"]): entry for entry in found["comparisons"]
                        if entry["length"] == 1024}
            names = [("resonance_yarn-1", "own"), ("resonance_yarn-2", "own")] if "trained/" in sweep else \
                [("model", "resonance_yarn"), ("model", "unscaled")]
            self.assertEqual(sorted(compared), sorted(names))
            for entry in compared.values():
                self.assertEqual((entry["units"], entry["unit"]), (4, "documents"))
                self.assertIsNotNone(entry["standard_error"])
            records = [json.loads(line) for line in (self.out / sweep / "evals.jsonl").read_text().splitlines()]
            self.assertEqual({record["task"] for record in records}, {"perplexity", "passkey", "longppl"})
        # Equal data and steps, but different rotations.
        metrics = {run: bb.metrics(self.out / "trained" / run) for run in ("yarn-1", "resonance_yarn-1")}
        self.assertEqual(*[[record["tokens"] for record in records] for records in metrics.values()])
        self.assertNotEqual(*[[record["loss"] for record in records] for records in metrics.values()])
        self.assertIn("yarn-2: 2 of 2 steps", self.to_the_end("status"))
        self.to_the_end()
        self.assertEqual({run: bb.metrics(self.out / "trained" / run) for run in metrics}, metrics)


class PosGen(Script):
    script = "reproduce_posgen.sh"

    def settings(self):
        return {"TASKS": "semi_recursive", "SEEDS": "2", "STEPS": "6", "COURSE": "2", "COUNT": "8", "SEQUENCES": "64", "JOBS": "2",
                "KEYS": "train.micro_batch_size=8"}

    def test_accuracy_on_the_way(self):
        table = self.to_the_end()
        rows = [line.split("|") for line in table.splitlines() if line.startswith("| semi_recursive | yarn |")]
        course = [row for row in rows if row[3].strip().isdigit()]
        self.assertEqual([row[3].strip() for row in course], ["3", "6"])
        # The loss comes from the run's records, the accuracy from its evaluations.
        runs = [self.out / f"semi_recursive-yarn-{seed}" for seed in (1, 2)]
        loss = sum(sum(record["loss"] for record in bb.metrics(run)[:3]) / 3 for run in runs) / 2
        self.assertAlmostEqual(float(course[0][4].split("±")[0]), loss, delta=1e-3)
        records = [json.loads(line) for run in runs for line in (run / "evals.jsonl").read_text().splitlines()]
        accuracy = [record["metrics"]["ood_accuracy"] for record in records if (record["step"], record["length"]) == (6, 256)]
        self.assertEqual(len(accuracy), 2)
        self.assertAlmostEqual(float(course[1][7].split("±")[0]), 50 * sum(accuracy), delta=1e-2)
        self.assertEqual(len([row for row in rows if row[3].strip() == "own"]), 1)
        picture = xml.etree.ElementTree.parse(self.out / "course-semi_recursive.svg").getroot()
        lines = picture.findall(".//{http://www.w3.org/2000/svg}polyline")
        self.assertEqual(len(lines), 2 * 4, "loss and accuracy of four rotations")
        self.assertEqual({len(line.get("points").split()) for line in lines}, {2}, "at both evaluations")
        picture = xml.etree.ElementTree.parse(self.out / "accuracy-semi_recursive.svg").getroot()
        dots = picture.findall(".//{http://www.w3.org/2000/svg}circle")
        self.assertEqual(len(dots), 6 * 2 * 2, "six settings, two seeds, within and beyond the trained length")

    def test_scales(self):
        """The configurations of the published size and of the far-token task are read, up to their first step."""
        for scale, seeds, steps in (("published", ["5549"], 2), ("far_token", ["1"], 2)):
            out = self.folder / scale
            self.environment.update(SCALE=scale, OUT=str(out), STEPS=str(steps), COURSE="0", SEEDS="1", TASKS="semi_recursive_strict",
                                    KEYS="train.micro_batch_size=4")
            self.to_the_end()
            self.assertEqual(sorted(path.parent.name for path in out.glob("*/done")),
                             sorted(f"semi_recursive_strict-{rope}-{seed}" for seed in seeds
                                    for rope in ("rope", "resonance", "yarn", "resonance_yarn")))
            self.assertEqual(len(bb.metrics(out / f"semi_recursive_strict-rope-{seeds[0]}")), steps)
        self.environment["SCALE"] = "larger"
        process = self.start()
        self.assertIn("SCALE is larger", process.communicate(timeout=60)[0])
        self.assertEqual(process.returncode, 64)


if __name__ == "__main__":
    unittest.main(verbosity=2)
