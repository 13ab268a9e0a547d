"""Training in bfloat16 with a second attention engine (emulated) gives the results of the native kernels, in both
passes, on one device and in rings, over whole blocks and over pieces and blocks of a few tokens, with documents and
windows. If the engine goes wrong after its start, training differs. The run prints which engine it uses, and refuses
one that is wrong or missing."""

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
DOCUMENTS = ["data.packing=true"]
WINDOWS = ["model.sliding_window=12", "model.layer_types=[full_attention,sliding_attention]"]
GRID = ["parallel.tensor=2", "parallel.context=2"]
# Ranks, configuration keys, size of a block in rows and keys (None: the default).
LAYOUTS = {"cp1": (1, [], None), "cp1, blocks": (1, [], 8), "cp1, documents in blocks": (1, DOCUMENTS, 8),
           "cp1, windows in blocks": (1, WINDOWS, 4),
           "cp2": (2, ["parallel.context=2"], None), "cp2, blocks": (2, ["parallel.context=2"], 5),
           "cp2, contiguous": (2, ["parallel.context=2", "parallel.layout=contiguous"], None),
           "cp2, documents": (2, ["parallel.context=2", *DOCUMENTS], None),
           "cp4, documents in blocks": (4, ["parallel.context=4", *DOCUMENTS], 3),
           "cp4": (4, ["parallel.context=4"], None),
           "tp2 cp2, documents in blocks": (4, [*GRID, *DOCUMENTS], 4),
           "tp2 cp2, windows in blocks": (4, [*GRID, *WINDOWS], 4)}
# Losses are about 3, from numbers rounded to 2^-9; gradients accumulate more roundings.
BOUNDS = {"loss": 4e-3, "grad_norm": 2e-2}


class FusedAttention(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        # Half of the documents are whole sequences; the others end in padding, or share a sequence.
        lengths = (21, 11, 32, 32)
        lines = [json.dumps({"tokens": [(i * k) % 22 for i in range(lengths[k % 4])]}) for k in range(1, 65)]
        (cls.folder / "train.jsonl").write_text("\n".join(lines) + "\n")
        cls.natives = {}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def train(self, name, ranks, attention, keys, block=None, expect=0, emulation="streams=adversarial:7", **environment):
        folder = self.folder / f"{name}-{attention}".replace(" ", "").replace(",", "-")
        if block is not None:
            environment["CARILLON_ATTENTION_EDGE"] = str(block)
        done = bb.run(ranks, "train", self.config, f"output={folder}", f"train.max_steps={STEPS}",
                      "train.lr_scheduler=constant", "data.sequence_length=32", "runtime.device=cuda",
                      "runtime.dtype=bfloat16", f"runtime.attention={attention}", *keys, expect=expect,
                      environment={"CARILLON_EMULATION": emulation, **environment})
        return done, bb.metrics(folder) if expect == 0 else None

    # The largest distance between two runs, in units of the bounds.
    def distance(self, some, others):
        self.assertEqual(len(some), len(others))
        return max(abs(a[key] - b[key]) / (bound * abs(b[key])) for a, b in zip(some, others) for key, bound in BOUNDS.items())

    def test_training_is_that_of_the_own_kernels(self):
        for name, (ranks, keys, block) in LAYOUTS.items():
            with self.subTest(name):
                _, own = self.train(name, ranks, "own", keys)
                done, fused = self.train(name, ranks, "auto", keys, block)
                self.assertIn("attention by cuDNN (emulated)", done.stderr)
                self.assertEqual(len(fused), STEPS)
                self.assertLess(self.distance(fused, own), 1)
                self.assertNotEqual([r["grad_norm"] for r in fused], [r["grad_norm"] for r in own], "the engine was not used")

    # The engine is right during the comparison (six calls with heads of one size) and wrong from then on. Mistakes that
    # hardly change the loss of a tiny model within six steps, such as a wrong or lost dK, are tested on the gradients
    # in cuda_fused_attention.
    def test_an_engine_that_errs_after_its_start_is_seen(self):
        ranks, keys, _ = LAYOUTS["cp2"]
        _, own = self.train("right", ranks, "own", keys)
        for mistake in ("causal", "own"):
            with self.subTest(mistake):
                _, wrong = self.train(mistake, ranks, "cudnn", keys, emulation=f"attention={mistake}:6")
                self.assertGreater(self.distance(wrong, own), 2)

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
                # With `auto` the run falls back to the native kernels.
                done, _ = self.train(f"{why}-auto", 2, "auto", ["parallel.context=2"], **arguments)
                self.assertIn("attention by native kernels (", done.stderr)
                self.assertIn(said, done.stderr)
        done, _ = self.train("float32", 1, "cudnn", ["runtime.dtype=float32"], expect=64)
        self.assertIn("runtime.dtype=bfloat16", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
