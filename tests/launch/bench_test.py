"""`carillon bench`: a complete profile from one second on any number of ranks, and a single clear line on failure. The
values are not tested: tests do not measure time."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

# Fields that cannot be measured on one node without a GPU.
ABSENT = {"between_nodes.bytes_per_second", "between_nodes.latency_seconds", "host.bytes_per_second",
          "host.latency_seconds", "peak_memory_bytes_per_second", "to_device_bytes_per_second",
          "to_host_bytes_per_second"}


class Bench(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.profile = self.folder / "made" / "on the way" / "profile.json"
        self.quick = ["bench.seconds=1", f"bench.output={self.profile}", f"bench.folder={self.folder}"]

    def tearDown(self):
        shutil.rmtree(self.folder)

    def whole(self, profile, dtypes):
        self.assertEqual([(pair["from"], pair["to"], pair["between_nodes"]) for pair in profile["pairs"]],
                         [(0, 1, False)] if len(profile["messages"]) > 1 else [])
        for name, value in bb.numbers(profile):
            if name == "pairs.from":
                continue
            if name in ABSENT:
                self.assertEqual(value, 0, name)
            else:
                self.assertGreater(value, 0, name)
        for kind in ("products", "attention"):
            self.assertEqual(sorted(profile[kind]), sorted(dtypes))
            for entries in profile[kind].values():
                shapes = [tuple(value for key, value in entry.items() if "flops" not in key) for entry in entries]
                self.assertGreater(len(shapes), 0)
                self.assertEqual(len(set(shapes)), len(shapes), "a shape stands there once")
        self.assertEqual(profile["name"], "this")

    def test_one_rank_and_two(self):
        for ranks in (1, 2):
            done = bb.run(ranks, "bench", *self.quick, environment={"OMP_NUM_THREADS": "1"})
            profile = json.loads(self.profile.read_text())
            self.whole(profile, ["float32", "bfloat16"])
            self.assertEqual(profile["threads"], 1)
            self.assertGreaterEqual(profile["ranks_per_node"], ranks)
            for word in ("product float32", "attention bfloat16", "GFLOP/s", "disk", "median", "spread"):
                self.assertIn(word, done.stdout)
            self.assertEqual(done.stdout.count("empty op"), 1, "rank 0 alone speaks")
            self.assertIn("measuring", done.stderr)
            self.assertEqual(list(self.folder.glob(".carillon-bench*")), [], "nothing is left on the disk")
            self.profile.unlink()

    def test_json_types_and_the_default_place(self):
        place = self.folder / "default.json"
        done = bb.run(1, "bench", "--json", "--quiet", "bench.seconds=0.5", f"bench.folder={self.folder}",
                      "bench.dtypes=[float64]", "bench.longest=256", environment={"CARILLON_PROFILE": str(place)})
        self.assertEqual(done.stdout, place.read_text())
        self.assertNotIn("measuring", done.stderr)
        profile = json.loads(done.stdout)
        self.whole(profile, ["float64"])
        self.assertEqual({entry["length"] for entry in profile["attention"]["float64"]}, {256})

    def test_the_reference_backend(self):
        bb.run(1, "bench", *self.quick, "runtime.device=reference", "bench.dtypes=[float32]", "bench.longest=64")
        profile = json.loads(self.profile.read_text())
        self.whole(profile, ["float32"])
        self.assertEqual(profile["device"], "reference")

    def refused(self, code, says, *arguments, ranks=1):
        done = bb.run(ranks, "bench", *arguments, expect=code)
        lines = [line for line in done.stderr.splitlines() if line.startswith("carillon: error: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn(says, lines[0])
        self.assertEqual(done.stdout, "")

    def test_what_cannot_be(self):
        file = self.folder / "file"
        file.write_text("")
        for ranks in (1, 2):
            self.refused(73, "bench.folder", *self.quick, f"bench.folder={self.folder}/none", ranks=ranks)
            self.refused(73, "file/profile.json", *self.quick, f"bench.output={file}/profile.json", ranks=ranks)
        self.assertFalse(self.profile.exists())
        self.refused(64, "bench.seconds", "bench.second=1")
        self.refused(64, "bench.seconds", "bench.seconds=0")
        self.refused(64, "bench.dtypes", "bench.dtypes=[float8]")
        self.refused(64, "bench.dtypes", "bench.dtypes=[]")
        self.refused(64, "no files", "run.yaml")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
