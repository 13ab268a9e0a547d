"""Runs tests/gpu/run.sh under emulation. Every part passes and is reported in JSON and HTML; planted faults change the
exit code and the report. Black box except for the comparison of memory."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import longest

BUILD = pathlib.Path(os.environ["CARILLON"]).parent
PARTS = ["facts", "tests", "training", "bench", "longest", "resume", "sanitizer", "profiler"]


class Rehearsal(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())

    def tearDown(self):
        shutil.rmtree(self.folder)

    def rehearse(self, *arguments, expect=0, **environment):
        """Runs a rehearsal; returns its JSON report and its page."""
        done = subprocess.run(["bash", str(HERE / "run.sh"), "--rehearse", "--build", str(BUILD), "--output",
                               str(self.folder), *arguments], capture_output=True, text=True, timeout=500, check=False,
                              env={**os.environ, **environment})
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return json.loads((self.folder / "gpu.json").read_text()), (self.folder / "gpu.html").read_text()

    def fails(self, part, check, *arguments, **environment):
        """Runs a rehearsal in which only this check of this part fails."""
        report, page = self.rehearse("--only", part, *arguments, expect=1, **environment)
        self.assertEqual(report["status"], "failed")
        found = {entry["name"]: entry for entry in report["parts"]}
        self.assertEqual([name for name in found if found[name]["status"] == "failed"], [part])
        failed = [entry["name"] for entry in found[part]["checks"] if entry["status"] == "failed"]
        self.assertEqual(failed, [check])
        self.assertIn(check, found[part]["reason"])
        self.assertIn(f'<td>{check}</td><td><span class="failed">failed</span>', page)
        return found[part]

    def test_every_part_passes(self):
        report, page = self.rehearse()
        self.assertEqual([part["name"] for part in report["parts"]], PARTS)
        for part in report["parts"]:
            self.assertEqual(part["status"], "passed", part["name"])
            for check in part["checks"]:
                if check["name"] != "PyTorch":  # a machine may not have it
                    self.assertEqual(check["status"], "passed", f"{part['name']}: {check}")
        self.assertTrue(report["rehearsal"])
        self.figures({part["name"]: part["figures"] for part in report["parts"]})
        for part in PARTS:
            self.assertIn(f'<h2 id="{part}">', page)
        self.assertGreaterEqual(page.count("<svg"), 3 + 4 + 2 * 2)  # losses; products, attention; memory, time
        self.assertIsNone(re.search(r"""(?:src|href)=["'](?!#)|url\(""", page), "the page needs nothing from outside")

    def figures(self, figures):
        self.assertEqual(len(figures["training"]["bfloat16"]["device"]), 50)
        self.assertNotEqual(figures["training"]["bfloat16"]["device"], figures["training"]["bfloat16"]["cpu"])
        plain, stand_in = figures["longest"]["geometries"]
        self.assertNotIn("does_not_fit", plain)
        self.assertEqual(stand_in["does_not_fit"], ["too large"])
        for entry in (plain, stand_in):
            # The emulation has no contexts and libraries, so memory equals the planned allocations to the byte.
            self.assertEqual(entry["measured_bytes"], entry["planned_bytes"] - entry["libraries_bytes"])
            self.assertLess(entry["length"], entry["longest_by_memory"])
            self.assertEqual(entry["started_at"], entry["longest_by_memory"])
            # The plan uses the profile that bench has just measured, here on a processor.
            self.assertEqual(entry["planned_by"], "what bench measured")
            self.assertGreater(entry["planned_seconds"], entry["planned_seconds_built_in"])
        # On one device, cases with more ranks are left out and reported.
        self.assertIn("left out: 2 ranks, there are 1 devices", figures["tests"]["model_cuda"]["left_out"])
        # Through host memory, however, the ranks share the device.
        shared = figures["tests"]["parallel_ring_attention on one device through host memory"]
        self.assertEqual(shared["left_out"], [])
        self.assertIn("one rank alone was run over it", figures["tests"]["nccl_on_one_device"])
        engines = {entry["engine"] for entry in figures["bench"]["profile"]["attention"]["bfloat16"]}
        self.assertEqual(engines, {"native", "cudnn"})
        self.assertEqual(set(figures["profiler"]), {"adamw"})
        self.assertTrue((self.folder / "ncu-adamw.csv").read_text().startswith('"ID"'))
        if figures["bench"]["peer"] is not None:  # where a Python has PyTorch
            for name in ("attention native by", "attention cudnn by", "product", "step, 32 tokens"):
                self.assertTrue(any(key.startswith(name) for key in figures["bench"]["ratios"]), name)

    # ---- negative controls

    def test_losses_too_far_apart_are_noticed(self):
        self.fails("training", "bfloat16", "--loss-bound", "1e-7")

    # Streams that execute work only when it is waited for, and a missing wait.
    def test_a_failing_test_is_noticed(self):
        part = self.fails("tests", "model_offload", CARILLON_TEST_BREAK="copy_not_awaited",
                          CARILLON_EMULATION="devices=1,streams=adversarial:1")
        self.assertIn("OffloadOnCuda.ChangesNoBit", part["reason"])
        self.assertIn("[  FAILED  ]", part["log"])

    def test_an_error_of_the_sanitizer_is_noticed(self):
        report, _ = self.rehearse("--only", "sanitizer", expect=1, STAND_IN_ERRORS="2")
        part, = (part for part in report["parts"] if part["name"] == "sanitizer")
        self.assertEqual([check["status"] for check in part["checks"]], ["failed"] * 4)

    def test_without_a_device_nothing_passes(self):
        report, _ = self.rehearse(expect=1, CARILLON_EMULATION="driver=none")
        self.assertEqual([part["status"] for part in report["parts"]], ["failed"] + ["skipped"] * (len(PARTS) - 1))
        self.assertIn("driver is missing", report["parts"][0]["reason"])

    def test_what_does_not_fit_the_budget_is_skipped_by_name(self):
        report, _ = self.rehearse("--budget", "3")
        self.assertEqual([part["status"] for part in report["parts"]], ["passed"] + ["skipped"] * (len(PARTS) - 1))
        for part in report["parts"][1:]:
            self.assertIn("of the budget are left", part["reason"])

    def test_memory_beside_the_plan_is_noticed(self):
        for measured, good in ((99, False), (100, True), (120, True), (121, False)):
            self.assertEqual(longest.judge_memory(120, 20, measured)[0], good, measured)


if __name__ == "__main__":
    unittest.main(verbosity=2)
