"""Training in bfloat16 with a second attention engine (emulated) is training with the native kernels, on one device and in
rings; the run says which it uses, and starts with no engine that is wrong or not there."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import black_box as bb

STEPS = 6
LAYOUTS = {"cp1": (1, []), "cp2": (2, ["parallel.context=2"]),
           "cp2, contiguous": (2, ["parallel.context=2", "parallel.layout=contiguous"]),
           "cp2, documents": (2, ["parallel.context=2", "data.packing=true"])}
# Losses of some 3 from numbers rounded to 2^-9; gradients pass through more of them.
BOUNDS = {"loss": 4e-3, "grad_norm": 2e-2}


class FusedAttention(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        # Half of them whole sequences; the others end in padding, or share a sequence.
        lengths = (21, 11, 32, 32)
        lines = [json.dumps({"tokens": [(i * k) % 22 for i in range(lengths[k % 4])]}) for k in range(1, 65)]
        (cls.folder / "train.jsonl").write_text("\n".join(lines) + "\n")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def train(self, name, ranks, attention, keys, expect=0, emulation="streams=adversarial:7", **environment):
        folder = self.folder / f"{name}-{attention}".replace(" ", "").replace(",", "-")
        done = bb.run(ranks, "train", self.config, f"output={folder}", f"train.max_steps={STEPS}",
                      "train.lr_scheduler=constant", "data.sequence_length=32", "runtime.device=cuda",
                      "runtime.dtype=bfloat16", f"runtime.attention={attention}", *keys, expect=expect,
                      environment={"CARILLON_EMULATION": emulation, **environment})
        return done, bb.metrics(folder) if expect == 0 else None

    def test_training_is_that_of_the_own_kernels(self):
        for name, (ranks, keys) in LAYOUTS.items():
            with self.subTest(name):
                _, own = self.train(name, ranks, "own", keys)
                done, fused = self.train(name, ranks, "cudnn", keys)
                self.assertIn("attention by cuDNN (emulated)", done.stderr)
                self.assertEqual(len(fused), STEPS)
                for ours, theirs in zip(fused, own):
                    for key, bound in BOUNDS.items():
                        self.assertLess(abs(ours[key] - theirs[key]), bound * abs(theirs[key]), (ours["step"], key))
                self.assertNotEqual([r["grad_norm"] for r in fused], [r["grad_norm"] for r in own], "the engine was not used")

    def test_what_is_wrong_or_missing_is_refused_in_one_line(self):
        for why, code, said, arguments in (
                ("wrong", 70, "differs from the native kernels", {"emulation": "attention=lse"}),
                ("old", 64, "for compute capability 9.0 and later", {"emulation": "capability=80"}),
                ("absent", 64, "was not built", {"CARILLON_CUDNN_LIBRARY": "/nowhere/libcarillon_cudnn.so"})):
            with self.subTest(why):
                done, _ = self.train(why, 2, "cudnn", ["parallel.context=2"], expect=code, **arguments)
                errors = [line for line in done.stderr.splitlines() if line.startswith("carillon: error")]
                self.assertEqual(len(errors), 1, done.stderr)
                self.assertIn(said, errors[0])
        done, _ = self.train("float32", 1, "cudnn", ["runtime.dtype=float32"], expect=64)
        self.assertIn("runtime.dtype=bfloat16", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
