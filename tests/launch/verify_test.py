"""`carillon verify`: every layout agrees with one rank, and each deliberate mistake is reported with the affected tensors."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]
import black_box as bb

LAYOUTS = [(2, ["parallel.context=2"]), (4, ["parallel.context=4"]), (2, ["parallel.tensor=2"]), (2, ["parallel.data=2"]),
           (4, ["parallel.tensor=2", "parallel.context=2", "parallel.zero=2"]), (4, ["parallel.data=2", "parallel.context=2"])]


class Verify(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def verify(self, ranks, *keys, **options):
        return bb.run(ranks, "verify", self.config, "train.gradient_accumulation_steps=2", *keys, **options)

    def test_layouts_agree(self):
        for ranks, keys in LAYOUTS:
            done = self.verify(ranks, "--json", *keys)
            result = json.loads(done.stdout)
            self.assertTrue(result["agrees"], keys)
            self.assertLess(result["loss"], 1e-12)
            self.assertIn("model.layers.1.mlp.down_proj.weight", result["tensors"])
            self.assertGreater(max(t["gradient"] for t in result["tensors"].values()), 0, "compared with itself")
        self.assertFalse((self.folder / "run").exists(), "the run's folder is the run's to make")

    def test_tensor_ranks_exchange_in_chunks(self):
        for ranks, keys in ((2, ["parallel.tensor=2"]), (4, ["parallel.tensor=2", "parallel.context=2", "train.mlp_tile=5"])):
            done = self.verify(ranks, "--json", *keys, environment={"CARILLON_TENSOR_CHUNKS": "3"})
            result = json.loads(done.stdout)
            self.assertTrue(result["agrees"], keys)
            self.assertLess(result["loss"], 1e-12)
        self.assertIn("CARILLON_TENSOR_CHUNKS=some is not a number",
                      self.verify(2, "parallel.tensor=2", expect=64, environment={"CARILLON_TENSOR_CHUNKS": "some"}).stderr)

    def test_the_runs_own_type(self):
        self.assertIn("float32: the layout changes nothing",
                      self.verify(2, "parallel.context=2", "verify.dtype=~", "runtime.dtype=float32").stdout)
        self.assertIn("bfloat16: the layout changes nothing",
                      self.verify(2, "parallel.context=2", "verify.dtype=bfloat16").stdout)
        self.assertNotIn("layers.1.", self.verify(2, "parallel.context=2", "model.num_hidden_layers=1").stdout)
        self.assertNotIn("layers.2.", self.verify(2, "parallel.context=2", "model.num_hidden_layers=4", "verify.shrink=true").stdout)

    def test_gradients_that_are_zero_do_not_count(self):
        """A key bias moves all scores of a row alike where keys do not rotate: its updates are rounding errors over epsilon."""
        for keys in (["train.learning_rate=1e-2"], ["verify.dtype=float32"]):
            keys += ["rope.type=none", "model.attention_bias=true", "parallel.tensor=2"]
            self.assertIn("the layout changes nothing", self.verify(2, *keys).stdout, keys)

    def test_mistakes_are_found(self):
        for mistake, ranks, keys in (("ring_wrong_chunk_order", 2, ["parallel.context=2"]),
                                     ("ring_drops_last_gradient_hop", 2, ["parallel.context=2"]),
                                     ("replicated_gradient_not_summed", 2, ["parallel.tensor=2"]),
                                     ("gradient_averaged", 2, ["parallel.data=2"]),
                                     ("weights_not_gathered", 2, ["parallel.context=2"])):
            done = self.verify(ranks, *keys, expect=70, environment={"CARILLON_TEST_BREAK": mistake})
            self.assertIn("the layout changes the result", done.stdout, mistake)
            self.assertIn("carillon: error: this layout does not compute", done.stderr)

    def test_bad_requests(self):
        self.assertIn("verify.steps", self.verify(1, "verify.steps=0", expect=64).stderr)
        bb.run(1, "verify", expect=64)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
