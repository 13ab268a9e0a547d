"""data.positions: skips are the same on every layout and after a kill and reach the promised positions; refusals name a
remedy."""

import json
import pathlib
import random
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

LAYOUTS = [(2, ["parallel.context=2"]), (4, ["parallel.context=4", "parallel.layout=contiguous"]), (2, ["parallel.tensor=2"]),
           (2, ["parallel.data=2", "train.micro_batch_size=2"]),
           (4, ["parallel.data=2", "parallel.context=2", "train.micro_batch_size=1", "train.gradient_accumulation_steps=2"])]


class Positions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        draw = random.Random(4)
        rows = []
        for _ in range(40):
            prompt, answer = draw.randrange(3, 12), draw.randrange(2, 12)
            rows.append({"tokens": [draw.randrange(22) for _ in range(prompt + answer)],
                         "loss_mask": [0] * prompt + [1] * answer})
        (cls.folder / "masked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        cls.kinds = {"pose": ["data.positions=pose"],
                     "random": ["data.positions=random"],
                     "skipalign": ["data.positions=skipalign", f"data.train=[{{path: {cls.folder}/masked.jsonl}}]", "data.packing=true"]}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def train(self, name, *keys, ranks=1, expect=0):
        return bb.run(ranks, "train", self.config, "train.lr_scheduler=constant", f"output={self.folder}/{name}", *keys, expect=expect)

    def losses(self, name):
        return [record["loss"] for record in bb.metrics(self.folder / name)]

    def test_layouts_and_a_resume_skip_alike(self):
        for kind, keys in self.kinds.items():
            printed = self.train(kind, *keys).stderr
            # yarn's factor 4 times 64; random positions stretch the sequence.
            self.assertIn(f"at positions below {132 if kind == 'random' else 256}", printed)
            straight = self.losses(kind)
            self.train(kind + "-consecutive", *keys, "data.positions=consecutive")
            consecutive = self.losses(kind + "-consecutive")
            # Over all steps: the first step may have drawn no skip.
            self.assertGreater(max(abs(a - b) for a, b in zip(straight, consecutive)), 1e-5, "positions decide about the loss")
            for number, (ranks, layout) in enumerate(LAYOUTS):
                self.train(f"{kind}-{number}", *keys, *layout, ranks=ranks)
                for a, b in zip(self.losses(f"{kind}-{number}"), straight, strict=True):
                    self.assertAlmostEqual(a, b, delta=1e-10 * b, msg=f"{kind} {layout}")
            self.train(kind + "-resumed", *keys, "train.max_steps=5")
            self.train(kind + "-resumed", *keys)
            self.assertEqual(bb.raw_fields(self.folder / f"{kind}-resumed"), bb.raw_fields(self.folder / kind))
            self.train(kind + "-seed", *keys, "train.seed=6", "data.shuffle=false")
            other = "rope.factor=3" if kind == "random" else "data.positions_length=200"
            self.train(kind + "-other", *keys, "train.seed=6", "data.shuffle=false", other)
            self.assertNotEqual(self.losses(kind + "-seed"), self.losses(kind + "-other"))

    def test_every_type_that_follows_the_length_goes_by_where_positions_end(self):
        factors = ["rope.type=longrope", "rope.factor=4", "rope.short_factor=[1,1,1,1]", "rope.long_factor=[1,2,3,4]"]
        for name, rope in {"dynamic": ["rope.type=dynamic", "rope.factor=4"], "longrope": factors}.items():
            keys = [*rope, "data.positions=pose", "data.positions_length=256", "train.max_steps=3"]
            self.train(name, *keys)
            self.train(name + "-fixed", *keys, "rope.length=256")
            self.train(name + "-short", *keys, "rope.length=33")
            self.assertEqual(self.losses(name), self.losses(name + "-fixed"))
            self.assertNotEqual(self.losses(name), self.losses(name + "-short"))

    def test_plan_takes_the_longer_table(self):
        def rotation(*keys):
            plan = json.loads(bb.run(1, "plan", self.config, "--json", "plan.profile=h100-sxm", *keys).stdout)
            return plan
        near, far = rotation(), rotation("data.positions=pose", "data.positions_length=1m", "rope.factor=16384")
        peak = [plan["memory"]["peak_bytes"] for plan in (near, far)]
        # Cosines and sines of 4 pairs in float64, less up to 1 % for the table that the sequence needs anyway.
        self.assertGreater(peak[1] - peak[0], 0.99 * (1 << 20) * 4 * 2 * 8)
        verify = bb.run(2, "verify", self.config, "parallel.context=2", "data.positions=pose", "--json")
        self.assertTrue(json.loads(verify.stdout)["agrees"])

    def test_what_leaves_nothing_to_skip_is_refused_with_the_way_out(self):
        def refused(*keys):
            done = self.train("refused", *keys, expect=64)
            line = next(line for line in done.stderr.splitlines() if line.startswith("carillon: error"))
            self.assertFalse((self.folder / "refused/metrics.jsonl").exists())
            return line
        self.assertIn("rope.factor", refused("data.positions=pose", "rope.type=default", "data.sequence_length=64"))
        self.assertIn("data.positions_length", refused("data.positions=pose", "data.positions_length=33"))
        plain = self.folder / "plain.jsonl"
        plain.write_text("".join(json.dumps({"tokens": list(range(i % 5, 20))}) + "\n" for i in range(8)))
        self.assertIn("data.positions pose", refused("data.positions=skipalign", f"data.train=[{{path: {plain}}}]"))
        self.assertIn("data.positions", refused("data.positions_length=100"))
        self.assertIn("rope.factor", refused("data.positions=random", "data.positions_length=100"))
        self.assertIn("rope.factor", refused("data.positions=random", "rope.type=linear", "rope.factor=1.5"))
        self.assertIn("skipalign", refused("data.positions=pose", "data.skip_probability=0.3"))
        self.assertIn("pose", refused("data.positions=poze"))
        self.assertIn("data.skip_probability", refused("data.positions=skipalign", "data.skip_probability=0"))
        plan = bb.run(1, "plan", self.config, "data.positions=pose", "data.positions_length=10", expect=64)
        self.assertIn("data.positions_length", plan.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
