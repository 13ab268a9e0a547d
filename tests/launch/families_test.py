"""Further checks for every family of tests/golden/families.py (the argument is a group): import and export reproduce the
family's own file, and unpatched transformers loads it (if installed); continuations equal those of transformers; rope
overrides affect the right layers; verify, plan and sweep work."""

import json
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import families
import numpy
from rope_frequencies import frequencies

try:
    import torch
    import transformers
except ImportError:
    torch = None

GROUP = []
LAYOUTS = {"1": (1, []), "cp2": (2, ["parallel.context=2"]), "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"])}
TRAIN = """
model: {base: %(model)s}
data: {train: [{path: %(data)s}], sequence_length: 33, packing: split, shuffle: false}
train: {max_steps: 1, learning_rate: 1e-3}
runtime: {dtype: float32}
output: %(output)s
"""
FULL, WINDOWED = "full_attention", "sliding_attention"
# The default pad token of each class: transformers refuses one that is outside the vocabulary.
PAD = {"gemma3_text": 0, "olmo2": 1, "olmo3": 1, "smollm3": 128004, "ministral3": 11, "phi3": 32000, "seed_oss": 1,
       "hunyuan_v1_dense": 0}
# Models that the classes of transformers cannot express: a word of the refusal.
REFUSED = {"llama_layers": "layer_types|no_rope_layers", "mistral_layers": "layer_types", "llama_sinks": "sinks",
           "llama_sinks_window": "sinks|layer_types"}
BY_KIND = ("gemma3_text", "gemma3_text_bias", "olmo3")
YARN = ["rope.type=yarn", "rope.factor=4"]
RESONANCE = ["rope.resonance=true"]


def overrides(name):
    """(keys, whether the export must succeed); otherwise it may also be refused, naming the reason"""
    if name.startswith("phi3"):
        return [(RESONANCE, True), (YARN, False)]
    if name == "ministral3":
        return [(["rope.factor=8"], True), (RESONANCE, True)]
    flat = name not in BY_KIND
    return [(YARN, True), (RESONANCE, flat), (["rope.type=resonance_yarn", "rope.factor=4"], flat)]


def read_tensors(path):
    """name -> (type, shape, bytes) of a safetensors file."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    return {name: (t["dtype"], t["shape"], data[begin + t["data_offsets"][0]:begin + t["data_offsets"][1]])
            for name, t in header.items() if name != "__metadata__"}


def table(rope):
    """The rotation of a layer as numbers, independent of how its keys are written, for a short and a long document."""
    if rope is None:
        return []
    turning = int(rope["head_dim"] * rope["partial_rotary_factor"])
    return [numpy.append(theta, attention) for theta, attention, _ in (
        frequencies(rope, turning, rope["max_position_embeddings"], length) for length in (5, 97))]


class Families(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.input = cls.folder / "documents.jsonl"
        cls.input.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in families.documents()))
        cls.models = {name: families.make(cls.folder / name, name) for name in GROUP}
        cls.cases = [name for name in GROUP if name not in families.WRAPPERS]

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def scores(self, model, *keys, dtype="float64"):
        output = self.folder / "scores.jsonl"
        bb.run(1, "score", f"model={model}", f"input={self.input}", f"output={output}", f"runtime.dtype={dtype}", *keys)
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def close(self, a, b, bound, what):
        worst = max(abs(x - y) for mine, theirs in zip(a, b) for x, y in zip(mine[1:], theirs[1:]))
        self.assertLessEqual(worst, bound, what)

    def check_in_transformers(self, exported, scores):
        """Loads the folder unchanged in unpatched transformers: float64 weights, with its norms and tables in float32."""
        if torch is None:
            return
        model = transformers.AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float64)
        theirs = []
        for tokens in families.documents():
            with torch.no_grad():
                logits = torch.log_softmax(model(torch.tensor([tokens])).logits[0], -1)[:-1]
            theirs.append([None, *logits.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()])
        self.close(scores, theirs, 3e-4, f"{exported.name} in transformers")

    def check_config(self, name, exported):
        """Read by the rules of the family, as in families.py, the exported config gives the same settings."""
        config = json.loads((exported / "config.json").read_text())
        config.pop("carillon_rope", None)
        original = families.config_of(families.case_of(name))
        self.assertEqual(config["model_type"], original["model_type"])
        self.assertEqual(config["architectures"], original["architectures"])
        pad = config.get("pad_token_id", PAD.get(config["model_type"]))
        self.assertTrue(pad is None or pad < original["vocab_size"], "transformers refuses the default pad token")
        if config["model_type"] == "hunyuan_v1_dense":
            self.assertIn("head_dim", config, "transformers' class needs it")
        mine, theirs = families.settings(config), families.settings(original)
        for field in ("heads", "kv_heads", "head_dim", "eps", "tied", "windows", "norms", "one_plus_weight", "qk_norm",
                      "qkv_bias", "out_bias", "mlp_bias", "activation", "scale", "embedding_multiplier",
                      "residual_multiplier", "logits_divisor", "soft_cap", "temperature", "fused"):
            self.assertEqual(getattr(mine, field), getattr(theirs, field), f"{name}: {field}")
        for ours, other in zip(mine.ropes, theirs.ropes):
            a, b = (table(rope and {**rope, "head_dim": mine.head_dim}) for rope in (ours, other))
            numpy.testing.assert_allclose(a, b, rtol=1e-12)

    def test_import_and_export_give_the_file_back(self):
        for name in GROUP:
            if name in REFUSED:
                continue
            with self.subTest(case=name):
                bb.run(1, "import", self.models[name], self.folder / f"{name}.h5")
                exported = self.folder / f"{name}-exported"
                bb.run(1, "export", self.folder / f"{name}.h5", exported, "format=hf")
                case = families.case_of(name)
                if case not in self.models:
                    self.models[case] = families.make(self.folder / case, case)
                self.assertEqual(read_tensors(exported / "model.safetensors"),
                                 read_tensors(self.models[case] / "model.safetensors"))
                self.check_config(name, exported)
                scores = self.scores(exported)
                self.close(scores, families.expected(name)["scores"], 1e-9, name)
                self.check_in_transformers(exported, scores)

    def trained(self, name, label, keys):
        config, output = self.folder / "train.yaml", self.folder / f"{name}-{label}"
        config.write_text(TRAIN % {"model": self.models[name], "data": self.input, "output": output})
        bb.run(1, "train", config, *keys)
        return output

    def test_export_of_another_rotation(self):
        for name in self.cases:
            if name in REFUSED:
                continue
            for i, (keys, must) in enumerate(overrides(name)):
                with self.subTest(case=name, rope=keys):
                    run, exported = self.trained(name, i, keys), self.folder / f"{name}-{i}-exported"
                    done = bb.run(1, "export", run, exported, expect=0 if must else None)
                    if done.returncode:
                        self.assertEqual(done.returncode, 64, done.stderr)
                        self.assertRegex(done.stderr.splitlines()[0], "resonance|yarn|rope")
                        continue
                    scores = self.scores(run)
                    config = json.loads((exported / "config.json").read_text())
                    config.pop("carillon_rope", None)
                    (exported / "config.json").write_text(json.dumps(config))
                    self.close(scores, self.scores(exported), 2e-5, "by the family's own keys")
                    self.check_in_transformers(exported, scores)

    def test_what_the_family_cannot_say_is_refused(self):
        for name in self.cases:
            if name in REFUSED:
                with self.subTest(case=name):
                    done = bb.run(1, "export", self.models[name], self.folder / f"{name}-refused", expect=64)
                    self.assertRegex(done.stderr.splitlines()[0], REFUSED[name])
                    self.assertFalse((self.folder / f"{name}-refused").exists())
            elif name == "cwm":
                with self.subTest(case=name):
                    run = self.trained(name, "kinds", ["rope.sliding_attention.resonance=true"])
                    done = bb.run(1, "export", run, self.folder / f"{name}-refused", expect=64)
                    self.assertRegex(done.stderr.splitlines()[0], "resonance|sliding_attention")

    def test_settings_that_are_not_supported_are_named(self):
        wrong = {
            "gemma3_text": [("attn_logit_softcapping", 50.0, "attn_logit_softcapping"),
                            ("use_bidirectional_attention", True, "use_bidirectional_attention"),
                            ("hidden_activation", "relu", "hidden_activation")],
            "olmo3": [("layer_types", [FULL] * 4, "layer_types"), ("layer_types", ["chunked_attention"] * 5, "layer_types")],
            "smollm3": [("no_rope_layers", [1, 0], "no_rope_layers")],
            "qwen2_window": [("layer_types", [WINDOWED] * 3, "layer_types")],
        }
        for name in self.cases:
            for key, value, word in wrong.get(name, []):
                with self.subTest(case=name, setting=key):
                    model = families.make(self.folder / f"{name}-{key}-{value}".replace(" ", ""), name,
                                          families.changed(name, [key], value))
                    done = bb.run(1, "score", f"model={model}", f"input={self.input}", f"output={self.folder}/none", expect=65)
                    self.assertRegex(done.stderr.splitlines()[0], word)

    def test_dropouts_are_named_in_one_line(self):
        if "seed_oss" in self.cases:
            model = families.make(self.folder / "dropout", "seed_oss", families.changed("seed_oss", ["residual_dropout"], 0.1))
            done = bb.run(1, "score", f"model={model}", f"input={self.input}", f"output={self.folder}/dropped")
            lines = [line for line in done.stderr.splitlines() if "dropout" in line]
            self.assertEqual(len(lines), 1, done.stderr)
            self.assertIn("residual_dropout", lines[0])

    def test_trained_from_a_geometry(self):
        """Without a base: the architecture's name and the usual keys; the export loads in transformers."""
        data = self.folder / "documents.jsonl"
        for family in sorted({families.CONFIGS[name]["model_type"] for name in self.cases}):
            with self.subTest(family=family):
                config, run = self.folder / "geometry.yaml", self.folder / f"geometry-{family}"
                config.write_text(json.dumps({
                    "model": {"architecture": family, **{key: families.GEOMETRY[key] for key in (
                        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                        "num_key_value_heads", "max_position_embeddings", "initializer_range")}, "head_dim": 8},
                    "data": {"train": [{"path": str(data)}], "sequence_length": 33, "packing": "split"},
                    "train": {"max_steps": 2, "learning_rate": 1e-3}, "runtime": {"dtype": "float32"}, "output": str(run)}))
                bb.run(1, "train", config)
                exported = self.folder / f"geometry-{family}-exported"
                bb.run(1, "export", run, exported)
                scores = self.scores(run)
                self.close(scores, self.scores(exported), 0, family)
                self.check_in_transformers(exported, scores)

    def test_continuations(self):
        """Greedy tokens with the cache, starting before, across and beyond the windows."""
        prompts, output = self.folder / "prompts.jsonl", self.folder / "continued.jsonl"
        for name in self.cases:
            expected = families.expected(name)["generated"]
            prompts.write_text("".join(json.dumps({"tokens": part["prompt"]}) + "\n" for part in expected))
            for layout, (ranks, keys) in LAYOUTS.items():
                with self.subTest(case=name, layout=layout):
                    bb.run(ranks, "generate", f"model={self.models[name]}", f"input={prompts}", f"output={output}",
                           f"max_new_tokens={len(expected[0]['tokens'])}", "runtime.dtype=float64", *keys)
                    got = [json.loads(line)["tokens"] for line in output.read_text().splitlines()]
                    self.assertEqual(got, [part["tokens"] for part in expected])

    def same_as(self, name, keys, path, value):
        """An override on the command line scores like the changed config.json."""
        with self.subTest(case=name, override=keys):
            model = families.make(self.folder / f"{name}-changed-{'-'.join(path)}", name, families.changed(name, path, value))
            mine = self.scores(self.models[name], *keys)
            self.close(mine, self.scores(model), 1e-12, "the changed config.json")
            with self.assertRaises(AssertionError):
                self.close(mine, families.expected(name)["scores"], 1e-3, "unchanged")

    def test_overrides_touch_the_layers_they_should(self):
        checks = {
            "gemma3_text": [(["rope.factor=5"], ["rope_scaling", "factor"], 5.0),
                            (["rope.sliding_attention.base=50"], ["rope_local_base_freq"], 50.0)],
            "gemma3_text_bias": [(["rope.factor=2"], ["rope_parameters", FULL, "factor"], 2.0)],
            "olmo3": [(["rope.factor=3"], ["rope_parameters", FULL, "factor"], 3.0),
                      (["rope.sliding_attention.type=linear", "rope.sliding_attention.factor=2"],
                       ["rope_parameters", WINDOWED], {"rope_type": "linear", "factor": 2.0, "rope_theta": 70.0})],
            "cwm": [(["rope.base=200"], ["rope_parameters", "rope_theta"], 200.0),
                    (["rope.factor=4"], ["rope_parameters", "factor"], 4.0)],
            "exaone4": [(["rope.base=200"], ["rope_parameters", "rope_theta"], 200.0)],
            "smollm3": [(["rope.type=none"], ["no_rope_layers"], [0, 0, 0, 0])],
            "ministral3": [(["rope.llama_4_scaling_beta=0.2"], ["rope_parameters", "llama_4_scaling_beta"], 0.2),
                           (["rope.mscale=1"], ["rope_parameters", "mscale"], 1.0)],
            "phi3": [(["rope.partial_rotary_factor=0.5"], ["partial_rotary_factor"], 0.5)],
            "hunyuan_v1_dense": [(["rope.alpha=40"], ["rope_parameters", "alpha"], 40.0)],
        }
        for name in self.cases:
            for check in checks.get(name, []):
                self.same_as(name, *check)

    def test_sweep_equals_score(self):
        output = self.folder / "sweep"
        config = self.folder / "sweep.yaml"
        config.write_text(json.dumps({
            "models": [str(self.models[name]) for name in GROUP], "lengths": [97], "runtime": {"dtype": "float64"},
            "tasks": [{"task": "perplexity", "data": [{"path": str(self.input)}]}], "output": str(output)}))
        bb.run(2, "sweep", config, "parallel.context=2")
        records = [json.loads(line) for line in (output / "evals.jsonl").read_text().splitlines()]
        self.assertEqual(len(records), len(GROUP))
        for record in records:
            name = pathlib.Path(record["model"]).name
            with self.subTest(case=name):
                values = [value for line in families.expected(name)["scores"] for value in line[1:]]
                self.assertEqual(record["status"], "ok", record)
                self.assertAlmostEqual(record["metrics"]["loss"], -sum(values) / len(values), delta=1e-9)

    def test_verify_and_plan(self):
        for name in GROUP:
            with self.subTest(case=name):
                config = self.folder / "verify.yaml"
                config.write_text(TRAIN % {"model": self.models[name], "data": self.input, "output": self.folder / "none"})
                result = json.loads(bb.run(4, "verify", config, "--json", "parallel.tensor=2", "parallel.context=2").stdout)
                self.assertTrue(result["agrees"])
                self.assertGreater(max(t["gradient"] for t in result["tensors"].values()), 0, "compared with itself")
                bb.run(1, "plan", config)


if __name__ == "__main__":
    GROUP += families.GROUPS[sys.argv.pop(1)]
    unittest.main(verbosity=2, warnings="ignore")
