"""runtime.patience: a rank that does not move ends the job with 75 on all ranks; a slow one does not; and replicas that have
diverged are found before a checkpoint. More places and kinds of faults: tests/reliability, R14 and R19.

Times: a hang is detected after two seconds of the watch's own clock, which runs slower on a busy machine. The time limit of a
whole test is generous and not asserted.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

LIMIT = 240  # seconds after which a command counts as hanging


def run(ranks, *arguments, **environment):
    return bb.run(ranks, *arguments, timeout=LIMIT, expect=None, environment={key: str(value) for key, value in environment.items()})


class Patience(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        os.environ["CARILLON_CACHE"] = str(cls.folder / "cache")
        cls.config = bb.tiny_run(cls.folder)
        bb.run(1, "train", cls.config, f"output={cls.folder}/whole", "train.max_steps=2")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def train(self, name, *more, ranks=2, **environment):
        return run(ranks, "train", self.config, f"output={self.folder}/{name}", "train.max_steps=4", *more, **environment)

    def must_end(self, done, *words, code=75):
        self.assertEqual(done.returncode, code, done.stderr[-3000:])
        line = next((line for line in done.stderr.splitlines() if line.startswith("carillon: error: ")), None)
        self.assertIsNotNone(line, done.stderr[-3000:])
        for word in words:
            self.assertIn(word, line)

    def test_a_stopped_rank(self):
        done = self.train("stopped", "runtime.patience=2s", CARILLON_TEST_HANG="stop@a training step:1")
        self.must_end(done, "rank 1 has not moved", "stopped by a signal", os.uname().nodename, "at a training step")
        self.assertIn("operation", done.stderr)  # the histories

    def test_a_spinning_rank_names_where(self):
        done = self.train("spinning", "runtime.patience=2s", CARILLON_TEST_HANG="spin@reading data:1")
        self.must_end(done, "rank 1 has not moved", "spins", "at reading data")

    def test_rank_0(self):
        done = self.train("first", "runtime.patience=2s", CARILLON_TEST_HANG="stop@a checkpoint:0")
        self.must_end(done, "rank 0 has not moved", "at a checkpoint")

    def test_the_end(self):
        done = self.train("end", "runtime.patience=2s", CARILLON_TEST_HANG="spin@the end:1")
        self.must_end(done, "rank 1 has not moved", "at the end")

    def test_patience_of_the_file(self):
        config = self.folder / "patient.yaml"
        config.write_text(self.config.read_text().replace("runtime: {", "runtime: {patience: 2s, "))
        done = run(2, "train", config, f"output={self.folder}/file", CARILLON_TEST_HANG="spin@reading data:1")
        self.must_end(done, "rank 1 has not moved")

    def test_other_commands(self):
        whole = f"{self.folder}/whole"
        for words in (["score", f"model={whole}", f"input={self.folder}/train.jsonl", f"output={self.folder}/scores.jsonl"],
                      ["verify", self.config]):
            done = run(2, *words, "runtime.patience=2s",
                       CARILLON_TEST_HANG="stop@opening the model:1" if words[0] == "score" else "stop@reading data:1")
            self.must_end(done, "rank 1 has not moved")

    def test_evaluations(self):
        whole, sweep = f"{self.folder}/whole", self.folder / "sweep.yaml"
        sweep.write_text(f"{{models: [{whole}], checkpoints: newest, lengths: [8], tasks: [{{task: posgen, subtask: recursive, "
                         f"modulus: 17, train_length: 8, count: 2, seed: 1}}], runtime: {{dtype: float64}}, output: {self.folder}/sweep}}")
        for words, place in ((["sweep", sweep], "an evaluation point"), (["sweep", sweep], "choosing a sweep's next point"),
                             (["score", f"model={whole}", f"input={self.folder}/train.jsonl",
                               f"output={self.folder}/scores2.jsonl"], "scoring"),
                             (["generate", f"model={whole}", "tokens=[1,2]", "max_new_tokens=4"], "generating")):
            done = run(2, *words, "runtime.patience=2s", CARILLON_TEST_HANG=f"stop@{place}:1")
            self.must_end(done, "rank 1 has not moved", f"at {place}")

    def test_commands_without_a_configuration(self):
        # These commands have no runtime.patience; the test reads the progress records that the watch would report.
        whole, exported = f"{self.folder}/whole", f"{self.folder}/exported"
        bb.run(1, "export", whole, exported)
        for words, place in ((["import", exported, f"{self.folder}/again.h5"], "importing a model"),
                             (["export", whole, f"{self.folder}/again"], "exporting a model"),
                             (["tokenize", f"{self.folder}/train.jsonl", f"output={self.folder}/tokens.h5"], "tokenizing")):
            process = bb.start(2, *words, environment={"CARILLON_TEST_HANG": f"spin@{place}:0"})
            try:
                until = time.monotonic() + LIMIT
                while place not in self.told(process) and time.monotonic() < until and process.poll() is None:
                    time.sleep(0.05)
                self.assertIn(place, self.told(process))
            finally:
                if process.poll() is None:
                    bb.kill_all(process)
                process.communicate()

    @staticmethod
    def told(process):
        """What the ranks are doing, from the records that they share (runtime/progress.h)."""
        told = b""
        for pid in bb.ranks_of(process):
            try:
                for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                    if os.readlink(link).startswith("/memfd:carillon-progress"):
                        told += link.read_bytes()
            except OSError:  # not there yet, or already gone
                pass
        return told.decode("latin-1")

    def test_a_slow_rank_goes_on(self):
        # The run takes longer in all than the patience, and the other rank waits most of the time.
        done = self.train("slow", "runtime.patience=6s", "train.max_steps=12", CARILLON_TEST_HANG="slow900@a training step:1")
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])

    def test_machines_that_are_silent(self):
        # Ranks act as if each were on a separate machine and learn each other's state over TCP.
        for rank in (0, 1):
            done = self.train(f"apart{rank}", "runtime.patience=2s", CARILLON_TEST_MACHINES=1,
                              CARILLON_TEST_HANG=f"stop@a training step:{rank}")
            self.must_end(done, f"rank {rank} and its machine have not been heard of", os.uname().nodename)

    def test_a_slow_machine_goes_on(self):
        done = self.train("slow_apart", "runtime.patience=6s", "train.max_steps=12", CARILLON_TEST_MACHINES=1,
                          CARILLON_TEST_HANG="slow900@a training step:1")
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])

    def test_never(self):
        process = bb.start(2, "train", self.config, f"output={self.folder}/never", "runtime.patience=0",
                           environment={"CARILLON_TEST_HANG": "spin@a training step:1"})
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(timeout=8)
        bb.kill_all(process)
        process.communicate()

    def test_replicas_that_differ(self):
        for layout, name in ((["parallel.zero=0"], "dp_cp"), (["parallel.context=2"], "dp_cp"), (["parallel.tensor=2"], "tp")):
            done = self.train("drift" + layout[0][9:12], *layout, CARILLON_TEST_BREAK="replica_bit_flipped")
            self.must_end(done, "is not the same on all ranks of group " + name, "rank 1 has", "model/", code=70)
            self.assertFalse(list((self.folder / ("drift" + layout[0][9:12])).glob("checkpoints/step-*")))


if __name__ == "__main__":
    unittest.main()
