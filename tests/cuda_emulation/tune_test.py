"""runtime.tune on emulated devices: of the algorithms that cuBLASLt offers for a product, the fastest is kept, after the first
call of each shape; results do not change, and neither does a sum that the product is added to."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
from counted_runs import CountedRuns

OFFERED = "algorithms=5:3"  # the heuristics put number 0 first; number 3 is the fastest
# With several micro-steps gradients are added to.
KEYS = ["train.gradient_accumulation_steps=2", "runtime.attention=native"]


class Tune(CountedRuns):
    def steps_of(self, name, steps, ranks, keys):
        counted, records = self.counted(name, ranks, steps, [*KEYS, *keys], emulation=OFFERED)
        numbers = [[record[key] for key in ("loss", "grad_norm")] for record in records if "loss" in record]
        self.assertEqual(len(numbers), steps)
        return counted, numbers

    def test_the_fastest_is_kept_and_nothing_changes(self):
        for ranks, layout in ((1, []), (2, ["parallel.tensor=2"])):
            for dtype in ("float32", "bfloat16"):
                with self.subTest(ranks=ranks, dtype=dtype):
                    keys = [*layout, f"runtime.dtype={dtype}"]
                    plain, expected = self.steps_of(f"plain-{ranks}-{dtype}", 3, ranks, keys)
                    for rank in plain:
                        self.assertGreater(rank["products"], 0)
                        self.assertEqual(rank["slow_products"], rank["products"], "the first of them is slow")
                    keys.append("runtime.tune=true")
                    short, _ = self.steps_of(f"tuned-{ranks}-{dtype}", 1, ranks, keys)
                    long, found = self.steps_of(f"tuned-{ranks}-{dtype}", 3, ranks, keys)
                    self.assertEqual(found, expected)
                    for counter in ("slow_products", "product_searches"):
                        self.assertEqual(sorted(rank[counter] for rank in short), sorted(rank[counter] for rank in long),
                                         "a shape is tuned once")
                    for rank in long:
                        self.assertGreater(rank["slow_products"], 0)
                        self.assertEqual(rank["slow_products"], rank["product_searches"] * 4 * 4,
                                         "four others, each run four times")
                    more = sum(rank["products"] for rank in long) - sum(rank["products"] for rank in short)
                    self.assertGreater(more, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
