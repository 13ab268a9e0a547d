"""launch/reproduce_language.sh from text to tables in small: killed, started again, and once more with nothing left to do."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "support"), str(ROOT / "launch" / "experiments")]
import black_box as bb
import english_text

METHODS = """# the script's table in small
yarn            rope.type=yarn rope.factor=FACTOR
resonance_yarn  rope.type=yarn rope.factor=FACTOR rope.resonance=true
none            rope.type=default
"""


def words(draw, count):
    """Sentences half of which are English's commonest words."""
    common = sorted(english_text.COMMON)
    text = ""
    for _ in range(count):
        sentence = [draw.choice(common) if draw.random() < 0.5 else "".join(draw.choices("etaoinshr", k=draw.randrange(3, 9)))
                    for _ in range(draw.randrange(6, 14))]
        text += " ".join(sentence).capitalize() + ("." if draw.random() < 0.8 else ".\n\n")
    return text


class ReproduceLanguage(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        texts = self.folder / "texts"
        texts.mkdir()
        draw = random.Random(3)
        for number in range(60):
            (texts / f"{number}.txt").write_text(words(draw, 260))
        (texts / "again.txt").write_text((texts / "7.txt").read_text() + "\n\n" + (texts / "8.txt").read_text())
        (texts / "numbers.txt").write_text("\n\n".join(str(draw.random()) for _ in range(2000)))
        methods = self.folder / "methods.txt"
        methods.write_text(METHODS)
        self.out = self.folder / "out"
        self.environment = {**os.environ, "CARILLON": bb.CARILLON, "OUT": str(self.out), "TEXTS": str(texts), "VOCABULARY": "257",
                            "SHORT": "32", "SEEDS": "2", "HEADS": "64", "BASES": "10000", "FACTORS": "4", "STEPS": "3",
                            "EXTEND_STEPS": "2", "EXTEND_TOKENS": "256", "JOBS": "2", "METHODS": str(methods),
                            "KEYS": "train.micro_batch_size=4 checkpoint.every_steps=1"}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def start(self, *arguments):
        return subprocess.Popen(["bash", str(ROOT / "launch" / "reproduce_language.sh"), *arguments], env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def to_the_end(self, *arguments):
        process = self.start(*arguments)
        output = process.communicate(timeout=600)[0]
        self.assertEqual(process.returncode, 0, output)
        return output

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
        self.assertIn("6 of 6", self.status("extended ×4"))
        self.assertIn("4 of 4", self.status("from the start"))
        # The document that stood before and the one without words are not there; a held-out one is not trained on.
        ids = {part: [json.loads(line)["id"] for line in (self.out / "text" / f"{part}.jsonl").read_text().splitlines()]
               for part in ("train", "validation", "test")}
        self.assertEqual(len(sum(ids.values(), [])), 60)
        self.assertFalse({"texts again.txt", "texts numbers.txt"} & set(sum(ids.values(), [])))
        self.assertGreater(len(ids["test"]), 1)

        tables = self.to_the_end("tables")
        extended = tables[tables.index("### extended ×4"):tables.index("### trained from the start")]
        row, = [line.split("|") for line in extended.splitlines() if line.startswith("| resonance_yarn ")]
        self.assertEqual(row[2].strip(), "2")
        # The paired difference at 256 tokens, from the sweep's records: all test documents are longer, so that they weigh the same.
        records = [json.loads(line) for line in
                   (self.out / "head64-base10000" / "extended-x4" / "sweep" / "evals.jsonl").read_text().splitlines()]
        loss = {(pathlib.Path(r["model"]).name, r["length"]): r["metrics"]["loss"] for r in records}
        self.assertEqual(len(loss), 6 * 3)
        expected = sum(loss[f"resonance_yarn-{seed}", 256] - loss[f"yarn-{seed}", 256] for seed in (1, 2)) / 2
        self.assertAlmostEqual(float(row[8].split("±")[0]), expected, delta=1e-4)
        self.assertIn("±", row[9])
        self.assertEqual(extended.count("| 128–"), 1)

        again = self.to_the_end()
        self.assertNotIn("begins", again)
        self.assertEqual(again.count("### extended ×4"), 1)

    def status(self, what):
        line, = [line for line in self.to_the_end("status").splitlines() if f"| {what} |" in line]
        return line


if __name__ == "__main__":
    unittest.main(verbosity=2)
