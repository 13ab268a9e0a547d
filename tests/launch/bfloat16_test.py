"""bfloat16 training follows float32 on PosGen: over 200 steps the losses differ by at most 0.02 of the first step's loss."""

import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

KEYS = ["model.hidden_size=64", "model.intermediate_size=128", "model.head_dim=16", "model.num_key_value_heads=4",
        "model.initializer_range=0.02", "train.max_steps=200", "train.micro_batch_size=16", "train.learning_rate=1e-3",
        "train.warmup_steps=20", "checkpoint.every_steps=1000"]


class BFloat16(unittest.TestCase):
    def test_follows_float32(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        try:
            config = bb.tiny_run(folder, count=3000)
            losses = {}
            for dtype, ranks, extra in (("float32", 1, []), ("bfloat16", 1, []), ("bfloat16", 2, ["parallel.context=2"])):
                output = folder / f"{dtype}{ranks}"
                bb.run(ranks, "train", config, f"output={output}", f"runtime.dtype={dtype}", *KEYS, *extra)
                losses[dtype, ranks] = [record["loss"] for record in bb.metrics(output)]
            exact = losses["float32", 1]
            self.assertLess(exact[-1], exact[0] - 0.1, "it learns")
            for key in (("bfloat16", 1), ("bfloat16", 2)):
                worst = max(abs(a - b) for a, b in zip(losses[key], exact))
                print(f"{key}: largest difference {worst:.5f} of {exact[0]:.4f}, {exact[0]:.3f} -> {exact[-1]:.3f}")
                self.assertLessEqual(worst, 0.02 * exact[0])
                self.assertNotEqual(losses[key], exact)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
