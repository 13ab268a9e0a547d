"""`carillon bench` and `info` on emulated devices: every figure is present and finite, for every pair of ranks, and
`plan` reads them. The values are not tested, except for the memory used in addition to tensors, which the emulation
sets."""

import json
import math
import pathlib
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import black_box as bb

CONTEXT = 37  # MiB
ABSENT = {"between_nodes.bytes_per_second", "between_nodes.latency_seconds"}  # one machine


class Bench(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.profile = self.folder / "profile.json"

    def tearDown(self):
        shutil.rmtree(self.folder)

    def bench(self, ranks, *keys):
        done = bb.run(ranks, "bench", "bench.seconds=0.2", "bench.longest=64", "bench.dtypes=[bfloat16]",
                      "runtime.device=cuda", f"bench.output={self.profile}", f"bench.folder={self.folder}", *keys,
                      environment={"CARILLON_EMULATION": f"context={CONTEXT},memory=4096,devices=5"}, timeout=300)
        profile = json.loads(self.profile.read_text())
        for name, value in bb.numbers(profile):
            self.assertTrue(math.isfinite(value), name)
            if ranks == 1 and name.startswith("within_node") or name in ABSENT or name == "pairs.from":
                self.assertGreaterEqual(value, 0, name)
            else:
                self.assertGreater(value, 0, name)
        self.assertEqual(profile["device"], "cuda")
        self.assertEqual(profile["instruction_set"], "sm_90")
        self.assertEqual((profile["memory_bytes"], profile["ranks_per_node"]), (4096 << 20, 5))
        # Of the device, not of the host: allocations use exactly the requested size here, so the rest is the context.
        self.assertEqual(profile["library_bytes"], CONTEXT << 20)
        return done, profile

    def test_one_device(self):
        done, profile = self.bench(1)
        for word in ("of peak", "product bfloat16", "backward", "host to device", "both ways at once", "y = a + b",
                     "peak: ", "sm_90", "empty op"):
            self.assertIn(word, done.stdout)
        self.assertIn("links between devices", done.stderr)
        self.assertEqual((profile["pairs"], profile["messages"]), ([], []))
        # 4 multiprocessors at 1 GHz, 4096 FLOP each.
        self.assertEqual(profile["peak_flops_per_second"]["bfloat16"], 4 * 1e9 * 4096)
        for entry in profile["products"]["bfloat16"]:
            self.assertAlmostEqual(entry["share_of_peak"], entry["flops_per_second"] / (4 * 1e9 * 4096), delta=1e-12)
        self.assertIn("backward_share_of_peak", profile["attention"]["bfloat16"][0])
        self.assertIn("memory_share_of_peak", profile)
        # The plan uses the measured machine: its device, its copies, its peak.
        config = bb.tiny_run(self.folder)
        plan = json.loads(bb.run(1, "plan", config, "--json", f"plan.profile={self.profile}", "plan.ranks=1",
                                 "runtime.dtype=bfloat16", "train.offload=all").stdout)
        self.assertEqual(plan["memory"]["groups"][0]["by_role"]["libraries"], CONTEXT << 20)
        self.assertGreater(plan["time"]["mfu"], 0)
        self.assertFalse([text for text in plan["time"]["assumptions"] if "link to the host" in text])

    def test_every_pair_of_three_devices(self):
        for ranks, pairs in ((2, [(0, 1)]), (3, [(0, 1), (0, 2), (1, 2)])):
            done, profile = self.bench(ranks)
            self.assertEqual([(pair["from"], pair["to"]) for pair in profile["pairs"]], pairs)
            self.assertEqual([(m["operation"], m["group"], m["ranks"]) for m in profile["messages"]],
                             [(operation, "node", ranks) for operation in ("shift", "all_reduce", "all_gather")])
            self.assertIn(f"ranks 0 and {ranks - 1}", done.stdout)
            self.assertEqual(done.stdout.count("empty op"), 1, "rank 0 alone speaks")

    def test_what_does_not_fit_is_left_out_and_said(self):
        done = bb.run(1, "bench", "bench.seconds=0.2", "bench.longest=256", "bench.dtypes=[bfloat16]",
                      "runtime.device=cuda", f"bench.output={self.profile}", f"bench.folder={self.folder}",
                      environment={"CARILLON_EMULATION": "memory=52"}, timeout=300)
        self.assertIn("no room on the device", done.stderr)
        self.assertGreater(len(json.loads(self.profile.read_text())["attention"]["bfloat16"]), 0)

    def test_a_rank_without_a_device_ends_all(self):
        done = bb.run(2, "bench", "runtime.device=cuda", f"bench.output={self.profile}", f"bench.folder={self.folder}",
                      environment={"CARILLON_EMULATION": "devices=1"}, expect=64)
        self.assertEqual(len([line for line in done.stderr.splitlines() if line.startswith("carillon: error")]), 1)

    def test_info(self):
        emulation = {"CARILLON_EMULATION": "devices=5,memory=4096,context=37"}
        done = bb.run(1, "info", "--json", "runtime.device=cuda", environment=emulation)
        cuda = json.loads(done.stdout)["cuda"]
        self.assertEqual(len(cuda["devices"]), 5)
        for device in cuda["devices"]:
            self.assertEqual(device["compute_capability"], "9.0")
            for key in ("multiprocessors", "clock_hz", "memory_bytes", "l2_bytes", "memory_clock_hz", "memory_bus_bits"):
                self.assertGreater(device[key], 0, key)
            self.assertEqual(device["free_bytes"], (4096 - 37) << 20)
            self.assertEqual(device["peak"]["bfloat16_flops_per_second"], 4 * 1e9 * 4096)
        self.assertEqual(len(cuda["links"]), 10)
        self.assertEqual((cuda["links"]["0-1"], cuda["links"]["0-4"]), ("NVLink", "PCIe"))
        self.assertIn("cuDNN (emulated)", cuda["attention"])
        own = json.loads(bb.run(1, "info", "--json", "runtime.device=cuda", "runtime.attention=native", environment=emulation).stdout)
        self.assertEqual(own["cuda"]["attention"], "native kernels")
        for library in ("CUDA runtime", "CUDA driver", "cuBLASLt", "NCCL"):
            self.assertRegex(cuda[library], r"^\d+\.\d+")
        words = bb.run(2, "info", environment=emulation).stdout
        self.assertEqual(words.count("compute_capability: 9.0"), 5)
        self.assertNotIn("free_bytes", words, "no context is taken unasked")
        # If the configuration asks for a device that is absent, info fails on all ranks; otherwise it reports that.
        for ranks in (1, 2):
            done = bb.run(ranks, "info", "runtime.device=cuda", expect=64,
                          environment={"CARILLON_EMULATION": "devices=0"})
            self.assertEqual(len([line for line in done.stderr.splitlines() if "error: no CUDA device" in line]), 1)
        self.assertIn("no CUDA device", bb.run(1, "info", environment={"CARILLON_EMULATION": "devices=0"}).stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
