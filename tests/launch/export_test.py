"""`carillon export`: an exported model scores like the original, in Carillon and in unpatched transformers (if installed)."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder

ROPES = {
    "default": [], "linear": ["rope.type=linear", "rope.factor=4"], "dynamic": ["rope.type=dynamic", "rope.factor=4"],
    "ntk": ["rope.type=ntk", "rope.factor=4"], "yarn": ["rope.type=yarn", "rope.factor=4"],
    "ntk_by_parts": ["rope.type=ntk_by_parts", "rope.factor=4"], "resonance": ["rope.resonance=true"],
    "resonance_yarn": ["rope.type=resonance_yarn", "rope.factor=4"],
    "distributional": ["rope.type=distributional", "rope.factor=4"],
    "cope": ["rope.cope=3"], "cope_yarn": ["rope.type=resonance_yarn", "rope.factor=4", "rope.cope=2"],
    "cope_proportional": ["rope.type=proportional", "rope.partial_rotary_factor=0.75", "rope.cope=3"],
    "cope_ntk": ["rope.type=ntk", "rope.factor=4", "rope.cope=2"],
    # Only Hunyuan's class knows alpha: elsewhere the changed base is written as factors.
    "alpha": ["rope.type=dynamic", "rope.factor=4", "rope.alpha=8"],
    "llama3": ["rope.type=llama3", "rope.factor=8", "rope.low_freq_factor=1", "rope.high_freq_factor=4"],
}


class Export(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.data = cls.folder / "data.jsonl"
        # 97 tokens, four times the trained length of 24.
        cls.data.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cases.documents()))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def score(self, model, dtype="float32"):
        output = self.folder / "scores.jsonl"
        bb.run(1, "score", f"model={model}", f"input={self.data}", f"output={output}", f"runtime.dtype={dtype}")
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def trained(self, architecture, name):
        base = golden_folder.make(self.folder, f"{architecture}-{name}-base", architecture,
                                  {**cases.ARCHITECTURES[architecture], "max_position_embeddings": 24})
        config = self.folder / "train.yaml"
        config.write_text(f"""
model: {{base: {base}}}
data: {{train: [{{path: {self.data}}}], sequence_length: 24, packing: split}}
train: {{max_steps: 2, learning_rate: 1e-3}}
runtime: {{dtype: float32}}
output: {self.folder}/{architecture}-{name}
""")
        bb.run(1, "train", config, *ROPES[name])
        return self.folder / f"{architecture}-{name}"

    def compare(self, a, b, bound, what):
        for ours, theirs in zip(a, b):
            for x, y in zip(ours[1:], theirs[1:]):
                self.assertLessEqual(abs(x - y), bound, what)

    def test_round_trip_and_transformers(self):
        try:
            import torch
            import transformers
        except ImportError:
            torch = None
            print("transformers is not installed: compared with ourselves only")
        for architecture, name in [("llama", name) for name in ROPES] + [("qwen3", "resonance_yarn"), ("qwen2", "yarn"),
                                                                         ("mistral", "resonance_yarn")]:
            run = self.trained(architecture, name)
            exported = self.folder / f"exported-{architecture}-{name}"
            printed = bb.run(1, "export", run, exported).stdout
            self.assertRegex(printed, r"largest deviation \S+ over \d+ positions")
            ours = self.score(run)
            self.compare(ours, self.score(exported), 0, f"{name}: read back")
            # Without Carillon's own key: what other programs use.
            config = json.loads((exported / "config.json").read_text())
            self.assertEqual("carillon_rope" in config, True)
            stripped = self.folder / f"stripped-{architecture}-{name}"
            shutil.copytree(exported, stripped)
            (stripped / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "carillon_rope"}))
            self.compare(ours, self.score(stripped), 2e-5, f"{name}: by other programs' keys")
            if torch is None:
                continue
            model = transformers.AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
            for tokens, logprobs in zip(cases.documents(), ours):
                if len(tokens) == 1:
                    continue
                with torch.no_grad():
                    all_ = torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), -1)
                theirs = [None, *all_[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()]
                self.compare([logprobs], [theirs], 1e-4, f"{architecture} {name}: transformers")

    def test_what_has_no_form_elsewhere_is_refused(self):
        base = golden_folder.make(self.folder, "dynamic-resonance", "llama",
                                  {**cases.ARCHITECTURES["llama"], "rope_parameters": {
                                      "rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0, "resonance": True}})
        done = bb.run(1, "export", base, self.folder / "refused", expect=64)
        self.assertIn("dynamic", done.stderr)
        faded = golden_folder.make(self.folder, "dynamic-cope", "llama",
                                   {**cases.ARCHITECTURES["llama"], "rope_parameters": {
                                       "rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0, "cope": 2}})
        self.assertIn("without rope.cope", bb.run(1, "export", faded, self.folder / "refused", expect=64).stderr)
        # The classes of transformers rotate whole heads and ignore partial_rotary_factor; only phi3's uses it.
        for kind in ({"rope_type": "default"}, {"rope_type": "yarn", "factor": 2.0}):
            part = golden_folder.make(self.folder, f"part-{kind['rope_type']}", "llama",
                                      {**cases.ARCHITECTURES["llama"], "rope_parameters": {
                                          "rope_theta": 100.0, "partial_rotary_factor": 0.5, **kind}})
            done = bb.run(1, "export", part, self.folder / "refused", expect=64)
            self.assertIn("rope.partial_rotary_factor", done.stderr)
            self.assertIn("transformers' LlamaForCausalLM leaves it out", bb.run(1, "import", part, self.folder / "part.h5").stderr)
        self.assertFalse((self.folder / "refused").exists())
        bb.run(1, "export", self.folder / "nothing", self.folder / "refused", expect=66)
        bb.run(1, "export", base, self.folder / "refused", "format=gguf", expect=64)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
