"""`carillon plan` as a user sees it: any grid on one process, exit codes, launch lines that the program accepts."""

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
        self.assertLess(memory["allocated_bytes"], memory["peak_bytes"])
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

    def test_attention_is_that_of_the_engine_that_runs(self):
        plans = {engine: self.plan(f"runtime.attention={engine}")[0]["time"] for engine in ("auto", "native", "cudnn")}
        self.assertEqual(plans["auto"], plans["cudnn"], "auto is cuDNN on an H100")
        self.assertEqual(plans["native"]["attention"], {"forward": "native", "backward": "native"})
        self.assertEqual(plans["cudnn"]["attention"], {"forward": "cudnn", "backward": "cudnn"})
        ratio = {term: plans["native"]["terms"][term] / plans["cudnn"]["terms"][term]
                 for term in ("attention forward", "attention backward")}
        self.assertAlmostEqual(ratio["attention forward"], 0.65 / 0.40, places=2)
        self.assertAlmostEqual(ratio["attention backward"], 0.52 / 0.26, places=2)
        for words in (["plan.profile=a100"], ["runtime.dtype=float32", "parallel.zero=2"]):
            self.assertEqual(self.plan(*words)[0]["time"]["attention"], {"forward": "native", "backward": "native"})

    # dP of one block in bfloat16: bounded by the block length of 4096 tokens for any sequence length.
    def test_the_workspace_of_cudnn_is_in_the_plan(self):
        scratch = {(engine, length): self.plan(f"runtime.attention={engine}", f"data.sequence_length={length}")[0]
                   ["memory"]["by_role"]["backend scratch"] for engine in ("native", "cudnn") for length in ("64k", "128k")}
        block = 32 * 4096 * 4096 * 2
        self.assertLess(scratch["native", "128k"], block // 16)
        for length in ("64k", "128k"):
            self.assertGreater(scratch["cudnn", length], block)
        self.assertLess(scratch["cudnn", "128k"], 1.25 * block)
        self.assertEqual(scratch["cudnn", "64k"], scratch["cudnn", "128k"])

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
        self.assertIn("tokens per rank", ring["text"])
        self.assertIn("of a step of", ring["text"])
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
        for word in ("memory of the fullest rank", "time of a step", "assumed", "by the native kernels 40 % forward and 26 % backward, by cuDNN 65 and 52 %", "PCIe", "gradients are reduced", "best layouts", "mpirun -n 2 carillon train", "#SBATCH"):
            self.assertIn(word, text)

    def test_the_configurations_of_a_million_tokens_run(self):
        configs = pathlib.Path(__file__).resolve().parents[2] / "launch" / "configs"
        for name, nodes, parameters in (("h100x8_8b_1m", 1, 8030261248), ("h100x128_70b_1m", 16, 70553706496)):
            plan, _ = self.plan(f"plan.nodes={nodes}", "plan.ranks_per_node=8", config=configs / f"{name}.yaml")
            self.assertEqual(plan["model"]["parameters"], parameters)
            self.assertEqual(plan["layout"]["tokens_per_step"], 1 << 20)
            self.assertEqual((plan["layout"]["offload"], plan["layout"]["mlp_tile"]), ("checkpoints", 8192))
            self.assertTrue(plan["runs"])
            self.assertEqual([limit for limit in plan["limits"] if limit["name"] in ("memory", "host", "ring", "rope")], [])
            self.assertLess(plan["memory"]["peak_bytes"], plan["machine"]["usable_bytes"])
            self.assertEqual(plan["memory"]["host_node_bytes"], 8 * plan["memory"]["host_bytes"])
            self.assertEqual(sum(plan["memory"]["host_by_role"].values()), plan["memory"]["host_bytes"])
            self.assertEqual(plan["time"]["terms"]["host copies"], 0)
            self.assertGreater(plan["time"]["mfu"], .2)

    def test_host_memory_has_its_limit(self):
        config = pathlib.Path(__file__).resolve().parents[2] / "launch" / "configs" / "h100x8_8b_1m.yaml"
        plan, done = self.plan("plan.host_memory=480g", config=config, expect=64)
        host = next(limit for limit in plan["limits"] if limit["name"] == "host")
        self.assertTrue(host["fatal"])
        self.assertIn("480.0 GiB of host memory", host["text"])
        full = next(one for one in host["remedies"] if one["change"] == "train.recompute=full")
        self.assertTrue(full["fits"])
        longest = plan["memory"]["longest_sequence"]
        self.assertIn(f"data.sequence_length={longest}", [one["change"] for one in host["remedies"]])
        # Between 80 % and all of the memory: a warning, and a length that fits.
        plan, _ = self.plan("plan.host_memory=600g", config=config)
        self.assertFalse(next(limit for limit in plan["limits"] if limit["name"] == "host")["fatal"])
        self.assertLess(plan["memory"]["longest_sequence"], 1 << 20)

    def test_memory_is_remedied_by_tiles_and_offload(self):
        config = pathlib.Path(__file__).resolve().parents[2] / "launch" / "configs" / "h100x8_8b_1m.yaml"
        plan, _ = self.plan("train.offload=none", "train.mlp_tile=null", config=config, expect=64)
        memory = next(limit for limit in plan["limits"] if limit["name"] == "memory")
        changes = {one["change"]: one["fits"] for one in memory["remedies"]}
        self.assertEqual(changes.get("train.mlp_tile=8k"), False)
        self.assertEqual(changes.get("train.mlp_tile=8k and train.offload=checkpoints"), True)

    def test_a_cpu_has_nothing_to_offload_to(self):
        config = bb.tiny_run(self.folder / "unified")
        done = bb.run(1, "train", config, "train.offload=checkpoints", expect=64)
        self.assertIn("keeps everything in host memory already", done.stderr)
        plan, _ = self.plan("plan.profile=" + str(self.cpu_profile()), "train.offload=all", config=config, expect=64)
        self.assertEqual([limit["name"] for limit in plan["limits"] if limit["fatal"]], ["offload"])
        self.assertEqual({layout["offload"] for layout in plan["layouts"]}, {"none"})

    def cpu_profile(self):
        """22 GiB for one rank of 2 threads, with made-up rates."""
        rate, link = [{"rows": 512, "inner": 512, "columns": 512, "flops_per_second": 1e11}], {"bytes_per_second": 1e9, "latency_seconds": 1e-6}
        attention = [{"head_dim": 64, "length": 8192, "forward_flops_per_second": 5e10, "backward_flops_per_second": 5e10}]
        path = self.folder / "cpu.json"
        path.write_text(json.dumps({
            "version": 1, "name": "this", "device": "cpu", "processor": "some", "instruction_set": "avx512_bf16", "threads": 2,
            "ranks_per_node": 1, "memory_bytes": 22 << 30, "host_memory_bytes": 22 << 30, "library_bytes": 25 << 20,
            "products": {"float32": rate, "bfloat16": rate, "float64": rate},
            "attention": {"float32": attention, "bfloat16": attention, "float64": attention},
            "memory_bytes_per_second": 1e10, "op_seconds": 1e-6, "within_node": link, "between_nodes": link, "host": link,
            "disk_write_bytes_per_second": 1e9, "disk_read_bytes_per_second": 1e9}))
        return path

    def test_a_quarter_million_tokens_fit_a_small_machine(self):
        config = self.folder / "smol.yaml"
        config.write_text("""
model: {vocab_size: 49152, hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30, num_attention_heads: 9,
        num_key_value_heads: 3, head_dim: 64, tie_word_embeddings: true, max_position_embeddings: 1048576}
data: {train: [{path: nowhere.jsonl}], sequence_length: 256k}
train: {max_steps: 10, recompute: full, mlp_tile: 8k}
output: nowhere
""")
        plan, _ = self.plan(f"plan.profile={self.cpu_profile()}", config=config)
        self.assertGreaterEqual(plan["memory"]["longest_sequence"], 262144)
        whole, _ = self.plan(f"plan.profile={self.cpu_profile()}", "train.mlp_tile=null", config=config, expect=None)
        self.assertLess(whole["memory"]["longest_sequence"], plan["memory"]["longest_sequence"])

    def test_wrong_words(self):
        for words, code, says in ((["plan.nods=2"], 64, "plan.nodes"), (["plan.profile=nosuch"], None, "nosuch"),
                                  (["plan.profile=h100-sxm", "plan.nodes=2", "plan.ranks=9"], 64, "16"),
                                  (["plan.gpus_per_node=2"], 64, "plan.ranks_per_node")):
            done = bb.run(1, "plan", self.config, *words, expect=code)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(says, done.stderr)


if __name__ == "__main__":
    unittest.main()
