"""A step launches, allocates, copies and sends on emulated devices exactly what `carillon plan` predicts, to the byte.
Compares runs of two and of four steps; their difference is two steps, without start and end."""

import json
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import black_box as bb
from counted_runs import CountedRuns

SHORT, LONG = 2, 4
CASES = [
    ("1, none", 1, ["train.recompute=none"]),
    ("1, selective, bfloat16", 1, ["train.recompute=selective", "runtime.dtype=bfloat16"]),
    ("1, full, two micro-steps", 1, ["train.recompute=full", "train.gradient_accumulation_steps=2"]),
    # More parameter tensors (146) than one kernel updates (60) or sums (128).
    ("1, 16 layers", 1, ["model.num_hidden_layers=16"]),
    ("cp2, none", 2, ["parallel.context=2", "train.recompute=none"]),
    ("cp2, full", 2, ["parallel.context=2", "train.recompute=full"]),
    ("tp2, selective", 2, ["parallel.tensor=2", "train.recompute=selective"]),
    ("tp2, tiles and chunks", 2, ["parallel.tensor=2", "train.recompute=selective", "train.mlp_tile=24"]),
    ("1, cudnn, full", 1, ["runtime.dtype=bfloat16", "runtime.attention=cudnn", "train.recompute=full"]),
    ("cp2, cudnn", 2, ["runtime.dtype=bfloat16", "runtime.attention=cudnn", "parallel.context=2"]),
    ("cp2, cudnn, blocks", 2, ["runtime.dtype=bfloat16", "runtime.attention=cudnn", "parallel.context=2"]),
    ("tp2 cp2, cudnn, full", 4, ["runtime.dtype=bfloat16", "parallel.tensor=2", "parallel.context=2", "train.recompute=full"]),
    ("tp2 cp2, full", 4, ["parallel.tensor=2", "parallel.context=2", "train.recompute=full"]),
    ("dp2, zero 1", 2, ["parallel.data=2", "parallel.zero=1"]),
    ("dp2, zero 2, two micro-steps", 2, ["parallel.data=2", "parallel.zero=2", "train.gradient_accumulation_steps=2"]),
]
# If the name of a case says so, sets the number of chunks of exchanges over tensor ranks, or the size of attention's
# blocks, because shards and sequences are too small to be cut by default.
def chunks(name):
    return ({"CARILLON_TENSOR_CHUNKS": "3"} if "chunks" in name else {}) | (
        {"CARILLON_ATTENTION_EDGE": "6"} if "blocks" in name else {})


# The names of the counters, and those of the plan.
COUNTS = {"launches": "launches", "products": "products", "allocations": "allocations",
          "host_to_device_bytes": "to_device_bytes", "device_to_host_bytes": "to_host_bytes",
          "nccl_operations": "nccl_operations", "nccl_sent_bytes": "nccl_sent_bytes"}


class Counts(CountedRuns):
    def test_steps_are_as_planned(self):
        for name, ranks, keys in CASES:
            with self.subTest(name):
                plan = json.loads(bb.run(1, "plan", self.config, "--json", "plan.profile=h100-sxm", f"plan.ranks={ranks}",
                                         f"output={self.folder / 'planned'}", *self.keys, *keys,
                                         environment=chunks(name)).stdout)
                planned = plan["counts"]
                self.assertEqual([counts["rank"] for counts in planned], list(range(ranks)))
                short, _ = self.counted(name, ranks, SHORT, keys, chunks(name))
                long, records = self.counted(name, ranks, LONG, keys, chunks(name))
                # Process IDs do not identify ranks, so compare sums over all ranks, and sorted values of each.
                for counter, key in COUNTS.items():
                    self.assertEqual(sum(c[counter] for c in long) - sum(c[counter] for c in short),
                                     (LONG - SHORT) * sum(c[key] for c in planned), counter)
                # A non-blocking communicator would start a host thread for every call.
                self.assertEqual({c["nccl_threads"] for c in short + long}, {0})
                # Memory: the plan's allocations and the backend's scratch; libraries are a constant of the profile.
                for counts in (short, long):
                    self.assertEqual(sorted(c["peak_bytes"] for c in counts), self.device_bytes(plan, ranks))
                    self.assertEqual({c["allocations"] for c in counts}, {short[0]["allocations"]})
                for record in records[1:]:
                    for axis in ("cp", "tp", "dp_cp"):
                        for what in ("bytes", "calls"):
                            self.assertEqual(record["communication"][axis][what],
                                             sum(c["communication"][axis][what] for c in planned), (axis, what))

    # Each communicator and each connection, per direction, holds device buffers. With four ranks, all pairs would be
    # 2 · 3 connections per communicator.
    def test_only_what_exchanges_is_connected(self):
        for name, ranks, keys, communicators, connections in (
                # The ring and the gradients share a communicator. Connections are to neighbours; in addition rank 0,
                # the last to read late halves, sends their gradients back.
                ("cp4", 4, ["parallel.context=4"], 1, [2, 3, 3, 4]),
                ("two levels", 4, ["parallel.context=4", "parallel.ring=two_level", "parallel.ring_inner=2"], 1, [4] * 4),
                ("cp2 tp2", 4, ["parallel.context=2", "parallel.tensor=2"], 2, [2] * 4),
                ("cp2 dp2", 4, ["parallel.context=2", "train.micro_batch_size=1"], 2, [2] * 4),
                ("dp2", 2, ["parallel.data=2"], 1, [0] * 2)):
            with self.subTest(name):
                counted, _ = self.counted(name, ranks, 1, keys)
                self.assertEqual({c["nccl_communicators"] for c in counted}, {communicators})
                self.assertEqual(sorted(c["nccl_connections"] for c in counted), connections)

    @staticmethod
    def device_bytes(plan, ranks):
        return sorted(group["peak_bytes"] - group["by_role"]["libraries"]
                      for group in plan["memory"]["groups"] for _ in group["ranks"])


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
