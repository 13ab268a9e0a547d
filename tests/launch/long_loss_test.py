"""train.loss: longce as a run: records, layouts, resume, plan and refusals. (The formula: tests/model/long_loss_test.cpp.)"""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

LONGCE = ["train.loss=longce", "train.longce.context=8", "train.longce.stride=4"]


class LongLoss(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def train(self, name, *keys, ranks=1, expect=0):
        return bb.run(ranks, "train", self.config, "train.lr_scheduler=constant", f"output={self.folder}/{name}", *keys, expect=expect)

    def records(self, name):
        return bb.metrics(self.folder / name)

    def test_records_layouts_and_a_resume(self):
        names = ("loss", "cross_entropy", "longce_weight", "grad_norm")
        self.train("one", *LONGCE)
        self.train("plain")
        one, plain = self.records("one"), self.records("plain")
        self.assertAlmostEqual(one[0]["cross_entropy"], plain[0]["loss"], delta=1e-12)
        self.assertNotIn("cross_entropy", plain[0])
        self.assertNotAlmostEqual(one[0]["loss"], plain[0]["loss"], delta=1e-6)
        for record in one:
            self.assertGreater(record["longce_weight"], 0)
            self.assertLess(record["longce_weight"], 5)
            self.assertEqual(record["tokens"], plain[0]["tokens"])
        for number, (ranks, layout) in enumerate([
                (2, ["parallel.context=2"]), (4, ["parallel.context=2", "parallel.tensor=2"]),
                (2, ["parallel.data=2", "train.micro_batch_size=2"]),
                (1, ["train.micro_batch_size=1", "train.gradient_accumulation_steps=4"])]):
            self.train(f"layout-{number}", *LONGCE, *layout, ranks=ranks)
            for here, there in zip(self.records(f"layout-{number}"), one, strict=True):
                for name in names:
                    self.assertAlmostEqual(here[name], there[name], delta=1e-10 * there[name], msg=f"{layout} {name}")
        self.train("resumed", *LONGCE, "train.max_steps=5")
        self.train("resumed", *LONGCE)
        self.assertEqual(bb.raw_fields(self.folder / "resumed", names), bb.raw_fields(self.folder / "one", names))
        verify = bb.run(2, "verify", self.config, *LONGCE, "parallel.context=2", "--json")
        self.assertTrue(json.loads(verify.stdout)["agrees"])
        broken = bb.run(2, "verify", self.config, *LONGCE, "parallel.context=2", expect=70,
                        environment={"CARILLON_TEST_BREAK": "short_losses_not_shared"})
        self.assertIn("the layout changes the result", broken.stdout)

    def test_adapters_and_their_dropout(self):
        self.train("base", "train.max_steps=1")
        keys = [*LONGCE, f"model={{base: {self.folder}/base}}", "adapter={type: lora, rank: 2, dropout: 0.3}", "train.max_steps=4"]
        config = self.folder / "adapter.yaml"
        config.write_text(self.config.read_text().split("model:")[0] + "rope:" + self.config.read_text().split("rope:")[1])
        losses = []
        for name, ranks, layout in (("lora", 1, []), ("lora-cp", 2, ["parallel.context=2"]),
                                    ("lora-dp", 2, ["parallel.data=2", "train.micro_batch_size=2"])):
            bb.run(ranks, "train", config, f"output={self.folder}/{name}", *keys, *layout)
            losses.append([record["loss"] for record in self.records(name)])
        for other in losses[1:]:
            for here, there in zip(other, losses[0], strict=True):
                self.assertAlmostEqual(here, there, delta=1e-10 * there)

    def test_plan_counts_the_passes(self):
        def seconds(*keys):
            plan = json.loads(bb.run(1, "plan", self.config, "--json", "plan.profile=h100-sxm", *keys).stdout)
            return plan["time"]["terms"]
        plain, longce, dear = seconds(), seconds(*LONGCE), seconds(*LONGCE, "train.longce.stride=1")
        forward, backward = "products forward", "products backward"
        self.assertEqual(longce[backward], plain[backward])
        self.assertGreater(longce[forward], 1.9 * plain[forward])
        self.assertGreater(dear[forward], 1.5 * longce[forward])

    def test_what_compares_with_nothing_is_refused(self):
        line = self.train("refused", "train.loss=longce", expect=64).stderr.splitlines()[0]
        self.assertIn("train.longce.context", line)
        self.assertIn("4096", line)
        for key in ("train.longce.context=0", "train.longce.stride=0", "train.longce.largest_weight=0.5", "train.loss=long"):
            self.assertIn("train.lo", self.train("refused", "train.loss=longce", key, expect=64).stderr.splitlines()[0])
        self.assertFalse((self.folder / "refused/metrics.jsonl").exists())
        short = self.folder / "short.jsonl"
        short.write_text('{"tokens": [1, 2, 3, 4]}\n' * 8)
        self.assertIn("changes nothing", self.train("short", *LONGCE, f"data.train=[{{path: {short}}}]").stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
