"""The program sets how long its threads spin before its libraries load, by executing itself again as the same process. It
does not if the user has set the spin time, or if the command has no waiting threads."""

import os
import pathlib
import shutil
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb


class BriefWaits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        os.environ["CARILLON_CACHE"] = str(cls.folder / "cache")
        cls.config = bb.tiny_run(cls.folder)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def environment_of(self, *words, **environment):
        """Environment and name of a run that has reached its first step."""
        output = self.folder / "run"
        process = bb.start(1, *words, environment={"CARILLON_TEST_HANG": "spin@a training step", **environment})
        try:
            until = time.monotonic() + 120
            while not (output / "metrics.jsonl").exists() and time.monotonic() < until and process.poll() is None:
                time.sleep(0.02)
            found = pathlib.Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            name = pathlib.Path(f"/proc/{process.pid}/comm").read_text().strip()
            return dict(entry.decode().partition("=")[::2] for entry in found if entry), name
        finally:
            process.kill()
            process.communicate()

    def train(self, name, **environment):
        return self.environment_of("train", self.config, f"output={self.folder}/{name}", **environment)

    def setUp(self):
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def test_several_threads(self):
        found, name = self.train("run", OMP_NUM_THREADS="2", A_VARIABLE="of the person's")
        self.assertGreater(int(found["GOMP_SPINCOUNT"]), 0)
        self.assertLess(int(found["GOMP_SPINCOUNT"]), 300000)  # the default of libgomp
        self.assertEqual(found["A_VARIABLE"], "of the person's")
        self.assertEqual(found["OMP_NUM_THREADS"], "2")
        self.assertEqual(name, "carillon")

    def test_one_thread_waits_for_nobody(self):
        self.assertNotIn("GOMP_SPINCOUNT", self.train("run", OMP_NUM_THREADS="1")[0])

    def test_what_a_person_set_stays(self):
        self.assertEqual(self.train("run", OMP_NUM_THREADS="2", GOMP_SPINCOUNT="77")[0]["GOMP_SPINCOUNT"], "77")
        self.assertNotIn("GOMP_SPINCOUNT", self.train("run", OMP_NUM_THREADS="2", OMP_WAIT_POLICY="active")[0])

    def test_arguments_and_exit_codes_pass_through(self):
        done = bb.run(1, "train", self.folder / "there is none.yaml", "a=b c", expect=66, environment={"OMP_NUM_THREADS": "2"})
        self.assertIn("there is none.yaml", done.stderr)


if __name__ == "__main__":
    unittest.main()
