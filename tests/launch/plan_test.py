"""`carillon plan` as a person meets it: any grid on one process, exit codes, launch lines that the program accepts."""

import json
import pathlib
import shlex
import shutil
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

LLAMA_8B = """
model: {vocab_size: 128256, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32,
        num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128, max_position_embeddings: 1048576}
data: {train: [{path: nowhere.jsonl}], sequence_length: 128k}
train: {max_steps: 10}
parallel: {context: 8}
output: nowhere
"""


class Plan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = cls.folder / "8b.yaml"
        cls.config.write_text(LLAMA_8B)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def plan(self, *arguments, config=None, expect=0):
        done = bb.run(1, "plan", config or self.config, "--json", "plan.profile=h100-sxm", *arguments, expect=expect)
        return json.loads(done.stdout), done

    def test_a_plan_has_all_its_parts(self):
        begin = time.monotonic()
        plan, _ = self.plan()
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(plan["model"]["parameters"], 8030261248)
        self.assertEqual(plan["machine"]["ranks"], 8)
        self.assertEqual((plan["layout"]["context"], plan["layout"]["tokens_per_rank"]), (8, 16384))
        memory, seconds = plan["memory"], plan["time"]
        self.assertEqual(sum(memory["by_role"].values()), memory["peak_bytes"])
        self.assertLess(memory["dealt_bytes"], memory["peak_bytes"])
        self.assertEqual(sorted(rank for group in memory["groups"] for rank in group["ranks"]), list(range(8)))
        self.assertAlmostEqual(sum(seconds["terms"].values()), seconds["seconds"], places=6)
        self.assertEqual(max(seconds["terms"], key=seconds["terms"].get), seconds["limiting"])
        self.assertAlmostEqual(seconds["tokens_per_second"] * seconds["seconds"], 131072, places=3)
        self.assertLessEqual(len(plan["layouts"]), 5)
        rates = [layout["tokens_per_second"] for layout in plan["layouts"]]
        self.assertEqual(rates, sorted(rates, reverse=True))
        for layout in plan["layouts"]:
            self.assertEqual(layout["data"] * layout["context"] * layout["tensor"], 8)
            self.assertLessEqual(layout["peak_bytes"], plan["machine"]["usable_bytes"])
            self.assertTrue(layout["command"].startswith("mpirun -n 8 carillon train "), layout["command"])
            self.assertIn("#SBATCH --nodes=1 --ntasks-per-node=8", layout["sbatch"])
        self.assertTrue(plan["runs"])

    def test_many_ranks_need_no_mpi_and_little_time(self):
        begin = time.monotonic()
        plan, _ = self.plan("plan.nodes=16", "parallel.context=16", "parallel.tensor=8", "model.hidden_size=8192",
                            "model.intermediate_size=28672", "model.num_hidden_layers=80", "model.num_attention_heads=64")
        self.assertLess(time.monotonic() - begin, 20)
        self.assertEqual(plan["machine"]["ranks"], 128)
        self.assertEqual(plan["model"]["parameters"], 70553706496)

    def test_what_cannot_run_is_64_after_the_plan(self):
        for words, name, says in ((["parallel.tensor=3", "parallel.context=1"], "heads", "2 or 4"),
                                  (["parallel.context=3"], "world", "multiple of 3"),
                                  (["data.sequence_length=10"], "length", "at least 16"),
                                  (["data.sequence_length=4m"], "memory", "data.sequence_length=")):
            plan, done = self.plan(*words, expect=64)
            broken = [limit for limit in plan["limits"] if limit["fatal"]]
            self.assertIn(name, [limit["name"] for limit in broken])
            self.assertTrue(any(says in limit["text"] for limit in broken), broken)
            self.assertFalse(plan["runs"])
            self.assertEqual(done.stderr.count("carillon: error: "), 1)
        plan, _ = self.plan("data.sequence_length=4m", expect=64)
        remedies = next(limit for limit in plan["limits"] if limit["name"] == "memory")["remedies"]
        self.assertIn(("train.recompute=full", False), [(one["change"], one["fits"]) for one in remedies])
        self.assertTrue(any(one["fits"] for one in remedies))

    def test_the_longest_sequence_fits_and_one_granule_more_does_not(self):
        longest = self.plan()[0]["memory"]["longest_sequence"]
        for length, fits in ((longest, True), (longest + 16, False)):
            plan, _ = self.plan(f"data.sequence_length={length}", expect=None)
            self.assertEqual(plan["memory"]["peak_bytes"] <= plan["machine"]["usable_bytes"], fits)

    def test_a_short_ring_is_named_with_its_threshold(self):
        plan, _ = self.plan("data.sequence_length=2k")
        ring = next(limit for limit in plan["limits"] if limit["name"] == "ring")
        self.assertFalse(ring["fatal"])
        self.assertIn("tokens a rank", ring["text"])
        self.assertGreater(plan["time"]["ring"]["forward"]["tokens_to_hide"], 256)

    def test_uneven_vocabulary_makes_groups(self):
        plan, _ = self.plan("parallel.tensor=8", "parallel.context=1", "model.vocab_size=128001")
        groups = plan["memory"]["groups"]
        self.assertEqual([group["ranks"] for group in groups], [[0], list(range(1, 8))])
        self.assertGreater(groups[0]["peak_bytes"], groups[1]["peak_bytes"])
        self.assertIn("vocabulary", [limit["name"] for limit in plan["limits"]])

    def test_only_the_config_of_a_folder_is_read(self):
        folder = self.folder / "hf"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({
            "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 8192, "tie_word_embeddings": True, "hidden_act": "silu"}))
        config = self.folder / "hf.yaml"
        config.write_text(f"model: {{base: {folder}}}\ndata: {{train: [{{path: x}}], sequence_length: 8k}}\n"
                          "train: {max_steps: 1}\noutput: x\n")
        self.assertEqual(self.plan(config=config)[0]["model"]["parameters"], 134515008)

    def test_the_launch_line_is_one_that_train_takes(self):
        config = bb.tiny_run(self.folder / "tiny")
        plan, _ = self.plan("plan.ranks=2", "train.max_steps=2", f"output={self.folder}/tiny/planned run", config=config)
        words = shlex.split(plan["layouts"][0]["command"])
        self.assertEqual(words[:5], ["mpirun", "-n", "2", "carillon", "train"])
        bb.run(2, *words[4:])
        measured = bb.metrics(self.folder / "tiny" / "planned run")
        self.assertEqual(len(measured), 2)
        text = bb.run(1, "plan", config, "plan.profile=h100-sxm", "plan.ranks=2").stdout
        for word in ("memory of the fullest rank", "time of a step", "no offload", "best layouts", "mpirun -n 2 carillon train", "#SBATCH"):
            self.assertIn(word, text)

    def test_wrong_words(self):
        for words, code, says in ((["plan.nods=2"], 64, "plan.nodes"), (["plan.profile=nosuch"], None, "nosuch"),
                                  (["plan.nodes=2", "plan.ranks=9"], 64, "16"),
                                  (["plan.gpus_per_node=2", "plan.ranks_per_node=2"], 64, "keep one")):
            done = bb.run(1, "plan", self.config, *words, expect=code)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(says, done.stderr)


if __name__ == "__main__":
    unittest.main()
