"""Adapters through the program: what a checkpoint holds and which base it requires, resuming on another layout, dropout by
counter, the exports (read back here, and by PEFT and transformers if they are installed), the commands that read an
adapter, and what is refused. (Numbers against PEFT: tests/golden/adapter_test.py.)"""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import adapters
import black_box as bb
import cases
import families
import golden_folder

try:
    import peft
    import torch
    import transformers
except ImportError:
    peft = None

CONFIG = """
model: {base: %(base)s}
data: {train: [{path: %(folder)s/train.jsonl}], sequence_length: 33}
train: {max_steps: 6, micro_batch_size: 2, learning_rate: 1e-2}
adapter: {type: lora, rank: 3, alpha: 6}
runtime: {dtype: float64}
checkpoint: {every_steps: 3}
"""
PREFIX = "base_model.model.model.layers."


class Adapter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        (cls.folder / "train.jsonl").write_text("".join(
            json.dumps({"tokens": tokens, "loss_mask": weights}) + "\n" for tokens, weights in cases.training_documents()))
        cls.data = cls.folder / "data.jsonl"
        cls.data.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cases.documents()))
        cls.base = golden_folder.make(cls.folder, "base", "llama", cases.ARCHITECTURES["llama"])
        cls.config = cls.folder / "config.yaml"
        cls.config.write_text(CONFIG % {"base": cls.base, "folder": cls.folder})
        cls.run_folder = cls.train("run")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def train(cls, name, ranks=1, keys=(), expect=0, config=None, environment=None):
        output = cls.folder / name
        done = bb.run(ranks, "train", config or cls.config, f"output={output}", *keys, expect=expect, environment=environment)
        return output if expect == 0 else done.stderr

    def score(self, *arguments, ranks=1, expect=0, dtype="float64", data=None):
        output = self.folder / "scores.jsonl"
        done = bb.run(ranks, "score", f"input={data or self.data}", f"output={output}", f"runtime.dtype={dtype}", *arguments,
                      expect=expect)
        if expect != 0:
            return done.stderr
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def close(self, a, b, bound, what=""):
        self.assertEqual(len(a), len(b))
        for ours, theirs in zip(a, b):
            self.assertEqual(len(ours), len(theirs))
            for x, y in zip(ours[1:], theirs[1:]):
                self.assertLessEqual(abs(x - y), bound, what)

    def differ(self, a, b):
        self.assertGreater(max(abs(x - y) for s, t in zip(a, b) for x, y in zip(s[1:], t[1:])), 1e-4)

    def records_close(self, a, b, bound):
        for mine, theirs in zip(bb.metrics(a), bb.metrics(b), strict=True):
            for key in ("loss", "grad_norm"):
                self.assertLessEqual(abs(mine[key] - theirs[key]), bound * abs(theirs[key]), f"{key} {mine['step']}")

    def copy(self, source, name):
        target = self.folder / name
        shutil.copytree(source, target)
        return target

    # ---- the run ---------------------------------------------------------------------------------------------------
    def test_a_checkpoint_holds_the_adapter_alone(self):
        shown = json.loads(bb.run(1, "inspect", self.run_folder, "--json").stdout)
        names = {name.split("/")[-1] for name in shown["tensors"]}
        self.assertTrue(names and all(name.startswith(PREFIX) for name in names), names)
        self.assertEqual(len(names), 2 * 7 * 2)
        self.assertEqual(shown["tensors"][f"model/{PREFIX}1.mlp.down_proj.lora_A.weight"]["shape"], [3, 40])
        adapter = shown["config"]["adapter"]
        self.assertEqual(pathlib.Path(adapter["base"]), self.base.absolute())
        self.assertRegex(adapter["base_hash"], "^[0-9a-f]{16}$")
        self.assertEqual(adapter["config"]["r"], 3)

    def test_resuming(self):
        """Bit for bit on the same layout, up to rounding on another, with any ZeRO stage."""
        for name, ranks, keys, bound in (("same", 1, [], 0), ("other", 4, ["parallel.tensor=2", "parallel.context=2",
                                                                         "parallel.zero=0"], 1e-9),
                                         ("zero2", 2, ["parallel.context=2", "parallel.zero=2"], 1e-9)):
            output = self.copy(self.run_folder, f"resumed-{name}")
            shutil.rmtree(output / "checkpoints/step-00000006")
            (output / "ended").unlink()
            self.train(output.name, ranks, keys)
            self.records_close(output, self.run_folder, bound)
            self.close(self.score(f"model={output}"), self.score(f"model={self.run_folder}"), max(bound, 0))

    def test_layouts_and_dropout(self):
        one = self.train("dropout", keys=["adapter.dropout=0.3"])
        with self.assertRaises(AssertionError):
            self.records_close(one, self.run_folder, 1e-6)
        for name, ranks, keys in (("tp2cp2", 4, ["parallel.tensor=2", "parallel.context=2", "train.recompute=full"]),
                                  ("dp2", 2, ["parallel.data=2", "parallel.zero=2", "train.micro_batch_size=1"]),
                                  ("tiles", 2, ["parallel.tensor=2", "train.mlp_tile=5"])):
            self.records_close(self.train(f"dropout-{name}", ranks, ["adapter.dropout=0.3", *keys]), one, 1e-9)
        broken = self.train("dropout-broken", 2, ["adapter.dropout=0.3", "parallel.tensor=2"],
                            environment={"CARILLON_TEST_BREAK": "adapter_dropout_by_rank"})
        with self.assertRaises(AssertionError):
            self.records_close(broken, one, 1e-6)

    def test_the_base_must_be_the_same(self):
        output = self.copy(self.run_folder, "other-base-run")
        base = golden_folder.make(self.folder, "other-base", "llama", cases.ARCHITECTURES["llama"])
        moved = golden_folder.make(self.folder, "moved-base", "llama", cases.ARCHITECTURES["llama"])
        weights = base / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-3] ^= 4
        weights.write_bytes(data)
        keys = ["train.max_steps=8"]
        message = self.train(output.name, keys=[f"model.base={base}", *keys], expect=65)
        self.assertIn(str(base), message)
        self.assertIn(str(base), self.score(f"model={base}", f"adapter={output}", expect=65))
        self.train(output.name, keys=[f"model.base={moved}", *keys])  # the same content in another place
        self.close(self.score(f"model={moved}", f"adapter={self.run_folder}"), self.score(f"model={self.run_folder}"), 0)
        # The base in another file with the same content.
        bb.run(1, "import", self.base, self.folder / "base.h5")
        self.close(self.score(f"model={self.folder}/base.h5", f"adapter={self.run_folder}"),
                   self.score(f"model={self.run_folder}"), 0)

    def test_a_base_that_has_gone(self):
        base = golden_folder.make(self.folder, "going", "llama", cases.ARCHITECTURES["llama"])
        output = self.train("gone", keys=[f"model.base={base}", "train.max_steps=1"])
        expected = self.score(f"model={output}")
        base.rename(self.folder / "went")
        self.assertIn("adapter=", self.score(f"model={output}", expect=66))
        self.close(self.score(f"model={self.folder}/went", f"adapter={output}"), expected, 0)

    # ---- the exports -----------------------------------------------------------------------------------------------
    def test_exports(self):
        expected = self.score(f"model={self.run_folder}")
        self.differ(expected, self.score(f"model={self.base}"))
        folder, merged = self.folder / "exported-peft", self.folder / "exported-hf"
        bb.run(1, "export", self.run_folder, folder, "format=peft")
        bb.run(1, "export", self.run_folder, merged, "format=hf")
        self.assertEqual({path.name for path in folder.iterdir()}, {"adapter_model.safetensors", "adapter_config.json"})
        self.close(self.score(f"model={folder}"), expected, 1e-12)
        self.close(self.score(f"model={self.base}", f"adapter={folder}"), expected, 1e-12)
        self.close(self.score(f"model={merged}"), expected, 1e-9)
        again = self.folder / "exported-again"
        bb.run(1, "export", folder, again, "format=peft")
        self.assertEqual((again / "adapter_model.safetensors").read_bytes(), (folder / "adapter_model.safetensors").read_bytes())
        # An adapter alone does not state the type of its base; the base's type is kept.
        bb.run(1, "export", folder, again, "format=hf")
        self.assertEqual({path.name for path in again.iterdir()}, {"model.safetensors", "config.json"})
        self.assertIn("BF16", (again / "model.safetensors").read_bytes()[:4000].decode("utf-8", "replace"))
        self.close(self.score(f"model={again}"), expected, 0.3)
        if peft is None:
            print("peft is not installed: compared with ourselves only")
            return
        tokens = cases.documents()[2]
        base = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float64)
        theirs = torch.log_softmax(base(torch.tensor([tokens])).logits[0], -1)
        model = peft.PeftModel.from_pretrained(
            transformers.AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float64), folder)
        adapted = torch.log_softmax(model(torch.tensor([tokens])).logits[0], -1)
        for logits in (theirs, adapted):
            self.close([expected[2]], [[None, *(logits[i, token].item() for i, token in enumerate(tokens[1:]))]], 3e-5)

    def test_an_export_says_what_the_adapter_cannot(self):
        output = self.train("turned", keys=["rope.type=yarn", "rope.factor=2", "train.max_steps=1"])
        done = bb.run(1, "export", output, self.folder / "turned-peft", "format=peft")
        self.assertIn("base_config", done.stderr)
        config = json.loads((self.folder / "turned-peft/base_config/config.json").read_text())
        self.assertNotEqual(config["rope_parameters"]["rope_type"], "default")
        # Read back, the adapter has the rope it was trained with, whoever reads it.
        folder = self.folder / "turned-peft"
        expected = self.score(f"model={output}")
        self.differ(expected, self.score(f"model={output}", "rope.type=default"))
        self.close(self.score(f"model={folder}"), expected, 1e-12)
        self.close(self.score(f"model={self.base}", f"adapter={folder}"), expected, 1e-12)
        bb.run(1, "export", self.base, self.folder / "turned-merged", f"adapter={folder}")
        self.close(self.score(f"model={self.folder}/turned-merged"), expected, 0.3)
        bb.run(1, "export", folder, self.folder / "turned-again", "format=peft")
        self.assertEqual(json.loads((self.folder / "turned-again/base_config/config.json").read_text()), config)
        again = self.folder / "turned-go-on.yaml"
        again.write_text(self.config.read_text().replace("rank: 3, alpha: 6", f"base: {folder}"))
        going_on = self.train("turned-go-on", config=again, keys=["train.max_steps=1", "train.learning_rate=0"])
        self.close(self.score(f"model={going_on}"), expected, 1e-12)

    def test_an_adapter_as_one_file_for_llama_cpp(self):
        """Its tensors are those of the merged folder as such a file, whatever their type."""
        folder, merged = self.folder / "gguf-peft", self.folder / "gguf-merged"
        bb.run(1, "export", self.run_folder, folder, "format=peft")
        for source, dtype in ((self.run_folder, "f32"), (self.run_folder, "q8_0"), (folder, "bf16")):
            bb.run(1, "export", source, merged)
            ends = []
            for model in (source, merged):
                file = self.folder / f"{dtype}.gguf"
                bb.run(1, "export", model, file, "format=gguf", f"dtype={dtype}")
                ends.append(file.read_bytes()[-4000:])  # weights alone
            self.assertEqual(*ends, dtype)
            self.assertGreater(len(set(ends[0])), 50)

    def test_fused_layers(self):
        """phi3's files hold q, k, v in one tensor: an adapter for each is merged into it; PEFT's adapter has the sum of
        their ranks."""
        base = families.make(self.folder / "phi3-base", "phi3")
        data = self.folder / "phi3.jsonl"
        data.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in families.documents()))
        output = self.train("phi3", 2, [f"model.base={base}", f"data.train=[{{path: {data}}}]", "parallel.tensor=2",
                                        "train.max_steps=2"])
        merged, folder, again = (self.folder / f"phi3-{name}" for name in ("merged", "peft", "again"))
        bb.run(1, "export", output, merged)
        bb.run(1, "export", output, folder, "format=peft")
        bb.run(1, "export", folder, again, "format=peft")
        scores = [self.score(f"model={model}", data=data) for model in (output, merged, folder, again, base)]
        for theirs in scores[1:4]:
            self.close(scores[0], theirs, 1e-9)
        self.differ(scores[0], scores[4])
        settings = json.loads((folder / "adapter_config.json").read_text())
        self.assertEqual(set(settings["target_modules"]), {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"})
        self.assertEqual({settings["r"], *settings["rank_pattern"].values()}, {3, 6, 9})
        # Only some of the parts, with different scales: the rows of B for the others are zero.
        some = self.train("phi3-some", keys=[f"model.base={base}", f"data.train=[{{path: {data}}}]", "train.max_steps=2",
                                             "adapter.target_modules=[k_proj, up_proj]", "adapter.rslora=true"])
        bb.run(1, "export", some, self.folder / "phi3-some-peft", "format=peft")
        self.close(self.score(f"model={some}", data=data), self.score(f"model={self.folder}/phi3-some-peft", data=data), 1e-9)
        if peft is None:
            print("peft is not installed: compared with ourselves only")
            return
        tokens = families.documents()[2]
        for run, exported in ((output, folder), (some, self.folder / "phi3-some-peft")):
            model = peft.PeftModel.from_pretrained(
                transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64), exported)
            logits = torch.log_softmax(model(torch.tensor([tokens])).logits[0], -1)
            self.close([self.score(f"model={run}", data=data)[2]],
                       [[None, *(logits[i, token].item() for i, token in enumerate(tokens[1:]))]], 3e-5)

    # ---- a quantised base --------------------------------------------------------------------------------------------
    def test_a_quantised_base(self):
        """Trains with a quantised base; checkpoints, resuming, scores and exports use the original base."""
        losses = {"none": [record["loss"] for record in bb.metrics(self.run_folder)]}
        for kind in ("int8", "nf4"):
            output = self.train(f"base-{kind}", keys=[f"adapter.base_quantization={kind}"])
            losses[kind] = [record["loss"] for record in bb.metrics(output)]
            self.assertIn(kind, (output / "log.txt").read_text())
            again = self.copy(output, f"base-{kind}-again")
            shutil.rmtree(again / "checkpoints/step-00000006")
            (again / "ended").unlink()
            self.train(again.name, 4, ["parallel.tensor=2", "parallel.context=2", f"adapter.base_quantization={kind}"])
            self.records_close(again, output, 1e-9)
            # The adapter on the base that is not quantised.
            folder, merged = self.folder / f"{kind}-peft", self.folder / f"{kind}-hf"
            bb.run(1, "export", output, folder, "format=peft")
            bb.run(1, "export", output, merged, "format=hf")
            scores = self.score(f"model={output}")
            self.close(scores, self.score(f"model={self.base}", f"adapter={folder}"), 1e-12)
            self.close(scores, self.score(f"model={merged}"), 1e-9)
        distance = {kind: max(abs(a - b) for a, b in zip(losses[kind], losses["none"])) for kind in ("int8", "nf4")}
        self.assertTrue(0 < distance["int8"] < distance["nf4"] < 0.3, distance)
        # Resuming with the original base prints a warning.
        message = bb.run(1, "train", self.config, f"output={self.folder}/base-nf4", "train.max_steps=7").stderr
        self.assertIn("adapter.base_quantization", message)
        self.assertIn("nf4", self.train("refused", keys=["adapter.base_quantization=nf5"], expect=64))
        bb.run(4, "verify", self.config, f"output={self.folder}/verify-nf4", "parallel.tensor=2", "parallel.context=2",
               "adapter.base_quantization=nf4")

    def test_evaluations_in_training_have_the_quantised_base(self):
        keys = ["adapter.base_quantization=nf4", "eval.every_steps=3", "train.learning_rate=0",
                f"eval.tasks=[{{task: perplexity, data: [{{path: {self.data}}}]}}]"]
        output = self.train("evaluated-nf4", keys=keys)
        evaluated = json.loads((output / "evals.jsonl").read_text().splitlines()[-1])["metrics"]["loss"]
        done = bb.run(1, "eval", f"model={output}", "length=33", f"task={{task: perplexity, data: [{{path: {self.data}}}]}}",
                      "runtime.dtype=float64")
        self.assertGreater(abs(json.loads(done.stdout)["metrics"]["loss"] - evaluated), 1e-5)

    def test_patterns_survive(self):
        name = "qwen3"
        base = adapters.base_folder(self.folder, name)
        source = adapters.make(self.folder / "patterns", name, base=base)
        bb.run(1, "export", source, self.folder / "patterns-again", "format=peft")
        data = self.folder / "data.jsonl"
        self.assertTrue(data.exists())
        self.close(self.score(f"model={source}"), self.score(f"model={self.folder}/patterns-again"), 0)
        if peft is not None:
            model = peft.PeftModel.from_pretrained(
                transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64), self.folder / "patterns-again")
            tokens = cases.documents()[2]
            logits = torch.log_softmax(model(torch.tensor([tokens])).logits[0], -1)
            self.close([self.score(f"model={source}")[2]],
                       [[None, *(logits[i, token].item() for i, token in enumerate(tokens[1:]))]], 3e-5)

    def test_going_on_from_an_adapter(self):
        """From a PEFT folder or a run: keeps its rank and layers; the loss of the first step is that of the adapter."""
        folder = self.folder / "go-on-peft"
        bb.run(1, "export", self.run_folder, folder, "format=peft")
        config = self.folder / "go-on.yaml"
        text = self.config.read_text().replace("rank: 3, alpha: 6", "base: %s")
        losses = []
        for source in (folder, self.run_folder):
            config.write_text(text % source)
            output = self.train(f"go-on-{source.name}", config=config, keys=["train.max_steps=2", "data.shuffle=false"])
            losses.append([record["loss"] for record in bb.metrics(output)])
            shown = json.loads(bb.run(1, "inspect", output, "--json").stdout)
            self.assertEqual(shown["config"]["adapter"]["config"]["r"], 3)
        self.assertEqual(*losses)
        fresh = self.train("go-on-fresh", keys=["train.max_steps=2", "data.shuffle=false"])
        self.assertLess(losses[0][0], bb.metrics(fresh)[0]["loss"])

    # ---- other commands --------------------------------------------------------------------------------------------
    def test_generate_sweep_eval_and_verify(self):
        merged = self.folder / "merged"
        bb.run(1, "export", self.run_folder, merged)
        arguments = ["tokens=[5,9,3]", "max_new_tokens=12", "stop_at_end=false", "runtime.dtype=float64"]
        outputs = [json.loads(bb.run(ranks, "generate", f"model={model}", *arguments, *keys).stdout)["tokens"]
                   for ranks, model, keys in ((1, merged, []), (1, self.run_folder, []),
                                              (2, self.run_folder, ["parallel.tensor=2"]),
                                              (1, self.base, [f"adapter={self.run_folder}"]))]
        self.assertEqual(outputs[1:], outputs[:1] * 3)
        task = f"{{task: perplexity, data: [{{path: {self.data}}}]}}"
        losses = []
        for arguments in ([f"model={merged}"], [f"model={self.run_folder}"], [f"model={self.base}", f"adapter={self.run_folder}"],
                          [f"model={self.base}"]):
            done = bb.run(1, "eval", *arguments, "length=32", f"task={task}", "runtime.dtype=float64")
            losses.append(json.loads(done.stdout)["metrics"]["loss"])
        self.assertLessEqual(max(losses[:3]) - min(losses[:3]), 1e-9)
        self.assertGreater(abs(losses[3] - losses[0]), 1e-4)
        sweep = self.folder / "sweep.yaml"
        sweep.write_text(f"models: [{self.run_folder}, {merged}]\nlengths: [32]\ntasks: [{task}]\n"
                         f"runtime: {{dtype: float64}}\noutput: {self.folder}/sweep\n")
        bb.run(1, "sweep", sweep)
        records = [json.loads(line) for line in (self.folder / "sweep/evals.jsonl").read_text().splitlines()]
        self.assertEqual([record["step"] for record in records], [3, 6, None])
        self.assertLessEqual(abs(records[1]["metrics"]["loss"] - losses[0]), 1e-9)
        bb.run(4, "verify", self.config, f"output={self.folder}/verify", "parallel.tensor=2", "parallel.context=2",
               "adapter.dropout=0.2")

    def test_a_plan_knows(self):
        def plan(*keys):
            done = bb.run(1, "plan", self.config, f"output={self.folder}/plan", "plan.profile=h100-sxm", "plan.ranks=1",
                          "runtime.dtype=bfloat16", "--json", *keys)
            return json.loads(done.stdout)
        with_adapter, without = plan(), plan("adapter.type=none")
        def roles(plan):
            tensors = {}
            for name, size in bb.numbers(plan["memory"]["tensors"]):
                tensors[name] = tensors.get(name, 0) + size
            return tensors
        mine, theirs = roles(with_adapter), roles(without)
        self.assertTrue(any(name.startswith("gradients") for name in theirs), theirs)
        for role in ("gradients", "optimizer"):
            ours, whole = (sum(size for name, size in tensors.items() if name.startswith(role)) for tensors in (mine, theirs))
            self.assertLess(ours, whole / 3, role)
        quantised = roles(plan("adapter.base_quantization=nf4"))
        weights = [sum(size for name, size in tensors.items() if name.startswith("weights")) for tensors in (quantised, mine)]
        self.assertLess(*weights)
        self.assertTrue(any(name.startswith("weights.codes") for name in quantised), quantised)
        work = with_adapter["time"]["hardware_flops"] / without["time"]["hardware_flops"]
        self.assertTrue(0.6 < work < 0.95, work)

    def test_evaluations_in_training_do_not_drop(self):
        keys = ["adapter.dropout=0.5", "eval.every_steps=3", f"eval.tasks=[{{task: perplexity, data: [{{path: {self.data}}}]}}]"]
        output = self.train("evaluated", keys=keys)
        record = [json.loads(line) for line in (output / "evals.jsonl").read_text().splitlines()][-1]
        done = bb.run(1, "eval", f"model={output}", "length=33", f"task={{task: perplexity, data: [{{path: {self.data}}}]}}",
                      "runtime.dtype=float64")
        self.assertLessEqual(abs(json.loads(done.stdout)["metrics"]["loss"] - record["metrics"]["loss"]), 1e-9)

    # ---- refusals --------------------------------------------------------------------------------------------------
    def test_refusals(self):
        def refused(*keys, word, expect=64, config=None):
            message = self.train("refused", keys=keys, expect=expect, config=config)
            self.assertIn(word, message)
        refused("adapter.target_modules=[q_proj, lm_head]", word="lm_head")
        refused("adapter.target_modules=[embed_tokens]", word="embed_tokens")
        refused("adapter.target_modules=[q_porj]", word="q_proj")
        refused("adapter.rank=0", word="adapter.rank")
        refused("adapter.dropout=1", word="adapter.dropout")
        refused(f"adapter.base={self.run_folder}", word="adapter.rank")
        refused(f"model.base={self.run_folder}", word="adapter")
        scratch = self.folder / "scratch.yaml"
        scratch.write_text(self.config.read_text().replace(f"base: {self.base}", "vocab_size: 61, hidden_size: 32, "
                           "intermediate_size: 40, num_hidden_layers: 1, num_attention_heads: 4"))
        refused(word="model.base", config=scratch)
        untyped = self.folder / "untyped.yaml"
        untyped.write_text(self.config.read_text().replace("type: lora, ", ""))
        refused(word="adapter.type", config=untyped)
        # On a resume.
        self.assertIn("adapter.rank", self.train("run", keys=["adapter.rank=4", "train.max_steps=8"], expect=64))
        self.assertIn("adapter.type", self.train("run", keys=["adapter.type=none", "train.max_steps=8"], expect=64))
        self.assertIn("no adapter", bb.run(1, "export", self.base, self.folder / "none", "format=peft", expect=64).stderr)
        self.assertIn("not an adapter", self.score(f"model={self.base}", f"adapter={self.base}", expect=64))

    def test_adapters_of_other_kinds(self):
        llama = adapters.ADAPTERS["llama"]
        arrays = adapters.weights("llama")
        first = sorted(arrays)[0]
        for number, (change, word) in enumerate((
                ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"use_dora": True}, "use_dora"),
                ({"bias": "all"}, "bias"), ({"peft_type": "LOHA"}, "peft_type"), ({"init_lora_weights": "pissa"}, "init_lora"),
                ({"rank_pattern": {"q_proj": 7}}, "lora_A"), ({"rank_pattern": {"(": 7}}, "regular expression"),
                ({"rank_pattern": {"q_proj": 4.5}}, "whole number"), ({"rank_pattern": {"q_proj": 1e300}}, "whole number"),
                ({"rank_pattern": {"q_proj": 0}}, "whole number"), ({"alpha_pattern": {"q_proj": "6"}}, "a number"),
                ({"target_modules": ["q_proj"]}, "target_modules"), ({"layers_to_transform": [0]}, "layers_to_transform"),
                ({"layers_to_transform": 1}, "layers_to_transform"), ({"exclude_modules": ["v_proj"]}, "exclude_modules"))):
            folder = adapters.make(self.folder / f"kind{number}", "llama", base=self.base, settings={**llama, **change},
                                   arrays=arrays)
            self.assertIn(word, self.score(f"model={folder}", expect=65))
        for number, change in enumerate(({"target_modules": r".*\.(self_attn|mlp)\.\w+_proj"}, {"target_modules": "all-linear"},
                                         {"target_modules": [f"model.language_model.layers.{layer}.{kind}.{name}" for layer in range(9)
                                                             for kind in ("self_attn", "mlp") for name in adapters.ALL]},
                                         {"layers_to_transform": []}, {"layers_to_transform": list(range(9))})):
            folder = adapters.make(self.folder / f"same{number}", "llama", base=self.base, settings={**llama, **change}, arrays=arrays)
            self.score(f"model={folder}")
        for number, (tensors, word) in enumerate((
                ({key: value for key, value in arrays.items() if key != first}, "missing" if "lora_B" in first else "lora_B"),
                ({**arrays, first.replace("layers.0", "layers.9"): arrays[first]}, "layers.9"),
                ({**arrays, "base_model.model.lm_head.lora_A.weight": arrays[first]}, "lm_head"),
                ({key.removeprefix("base_model.model."): value for key, value in arrays.items()}, "base_model.model."),
                ({**arrays, "_orig_mod." + first: arrays[first]}, "base_model.model."),
                ({**arrays, first: arrays[first][:, :-1]}, first))):
            folder = adapters.make(self.folder / f"tensors{number}", "llama", base=self.base, arrays=tensors)
            self.assertIn(word, self.score(f"model={folder}", expect=65))


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
