"""Counts on emulated devices how many kernels and products a step launches and how often the host waits: per layer and
micro-step, and per step outside its layers. Fails if a count changes; prints the figures for runtime/cuda/README.md."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
from counted_runs import CountedRuns

FEW, MANY, SHORT, LONG = 2, 6, 2, 4  # layers, steps
NATIVE = "runtime.attention=native"
CASES = {
    "1 rank, none": (1, ["train.recompute=none", NATIVE]),
    "1 rank, selective": (1, ["train.recompute=selective", NATIVE]),
    "1 rank, full": (1, ["train.recompute=full", NATIVE]),
    "1 rank, full, cudnn": (1, ["train.recompute=full"]),
    "ring of 2, full": (2, ["train.recompute=full", "parallel.context=2", NATIVE]),
    "ring of 2, full, cudnn": (2, ["train.recompute=full", "parallel.context=2"]),
    "tensor 2, full": (2, ["train.recompute=full", "parallel.tensor=2", NATIVE]),
}
# Kernels, products and host waits per layer and step; then the same per step outside the layers.
HELD = {
    "1 rank, none": (11, 12, 0, 16, 3, 2),
    "1 rank, selective": (14, 15, 0, 16, 3, 2),
    "1 rank, full": (15, 15, 0, 16, 3, 2),
    "1 rank, full, cudnn": (15, 15, 0, 16, 3, 2),
    "ring of 2, full": (37, 15, 0, 15, 3, 2),
    "ring of 2, full, cudnn": (49, 15, 0, 16, 3, 2),
    "tensor 2, full": (16, 15, 0, 15, 3, 2),
}


class Launches(CountedRuns):
    def most(self, name, ranks, layers, steps, keys):
        """Returns kernels, products and host waits of the busiest rank's whole run."""
        found, _ = self.counted(f"{name}-{layers}", ranks, steps,
                                ["runtime.dtype=bfloat16", f"model.num_hidden_layers={layers}", *keys])
        return [max(c[key] for c in found) for key in ("launches", "products", "host_waits")]

    def test_launches_and_waits_are_held(self):
        print(f"\n| {'run':20} | kernels per layer | products per layer | waits per layer | kernels | products | waits per step |")
        print("|---|---|---|---|---|---|---|")
        wrong = {}
        for name, (ranks, keys) in CASES.items():
            steps = {}
            for layers in (FEW, MANY):
                short, long = (self.most(name, ranks, layers, count, keys) for count in (SHORT, LONG))
                steps[layers] = [(b - a) / (LONG - SHORT) for a, b in zip(short, long)]
            layer = [(b - a) / (MANY - FEW) for a, b in zip(steps[FEW], steps[MANY])]
            rest = [a - FEW * per_layer for a, per_layer in zip(steps[FEW], layer)]
            print(f"| {name:20} | {layer[0]:g} | {layer[1]:g} | {layer[2]:g} | {rest[0]:g} | {rest[1]:g} | {rest[2]:g} |")
            if HELD.get(name) != (*layer, *rest):
                wrong[name] = (*layer, *rest)
        self.assertEqual(wrong, {}, "other than is held: where it is less, hold that")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
