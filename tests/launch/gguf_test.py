"""`carillon export … format=gguf`, run in llama.cpp itself: log-probabilities at four times the trained length, greedy
tokens, text to ids; and byte for byte against the package gguf, which reads and quantises independently.
tests/requirements.txt lists both packages; without them the test is skipped (77)."""

import json
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
try:
    import gguf
    import numpy

    import llama_cpp
    LLAMA = llama_cpp.library()
except ImportError:
    LLAMA = None
if LLAMA is None:
    print("skipped: the Python packages gguf and xllamacpp are not installed")
    sys.exit(77)
import black_box as bb
import cases
import families
import golden_folder

TRAINED = 24  # tokens; the longest document has 97
# Added to the config.json of each model. With base 100 the slowest of four pairs turns once in 628 tokens, so every scaling has
# an effect.
ROPES = {
    "default": {}, "linear": {"rope_type": "linear", "factor": 4.0}, "ntk": {"rope_type": "ntk", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0}, "ntk_by_parts": {"rope_type": "ntk_by_parts", "factor": 4.0},
    "resonance": {"resonance": True}, "resonance_yarn": {"rope_type": "yarn", "factor": 4.0, "resonance": True},
    "yarn_betas": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 4.0, "beta_slow": 0.5},
    "yarn_untruncated": {"rope_type": "yarn", "factor": 4.0, "truncate": False},
    "yarn_attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5},
    "distributional": {"rope_type": "distributional", "factor": 4.0},
    "none": {"rope_type": "none"}, "cope": {"cope": 3}, "cope_yarn": {"rope_type": "yarn", "factor": 4.0, "cope": 2},
    "one_longrope": {"rope_type": "longrope", "factor": 4.0, "short_factor": cases.FACTORS, "long_factor": cases.FACTORS},
}
EVERYWHERE = ["default", "linear", "ntk", "yarn", "yarn_attention"]  # what the keys of every architecture can express


def rope(name):
    return {"max_position_embeddings": TRAINED, "rope_parameters": {
        "rope_type": "default", "rope_theta": 100.0, "original_max_position_embeddings": TRAINED, **ROPES[name]}}


def shapes_of(file):
    data = pathlib.Path(file).read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}


def log_softmax(logits):
    logits = logits.astype(numpy.float64)
    top = logits.max(-1, keepdims=True)
    return logits - top - numpy.log(numpy.exp(logits - top).sum(-1, keepdims=True))


class Gguf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.data = cls.folder / "data.jsonl"
        # Ids below the smallest vocabulary of all models.
        cls.documents = [[token % 53 for token in tokens] for tokens in cases.documents() if len(tokens) > 1]
        cls.data.write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cls.documents))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def model(self, name, weights, **changes):
        return golden_folder.make(self.folder, name, weights, {**cases.ARCHITECTURES[weights], **changes})

    def export(self, model, *keys, name=None, expect=0):
        output = self.folder / f"{name or pathlib.Path(model).name}.gguf"
        done = bb.run(1, "export", model, output, "format=gguf", *keys, expect=expect)
        return done if expect != 0 else output

    def score(self, model):
        output = self.folder / "scores.jsonl"
        bb.run(1, "score", f"model={model}", f"input={self.data}", f"output={output}", "runtime.dtype=float32")
        return [json.loads(line)["logprobs"][1:] for line in output.read_text().splitlines()]

    def deviation(self, ours, file):
        """The largest difference of any log-probability."""
        worst = 0
        with llama_cpp.Model(LLAMA, file) as theirs:
            for tokens, logprobs in zip(self.documents, ours):
                all_ = log_softmax(theirs.logits(tokens))
                worst = max(worst, max(abs(all_[i, token] - logprobs[i]) for i, token in enumerate(tokens[1:])))
        return worst

    def check(self, model, architecture, bound=2e-4):
        file = self.export(model, "dtype=f32")
        self.assertEqual(gguf.GGUFReader(file).get_field("general.architecture").contents(), architecture, file)
        worst = self.deviation(self.score(model), file)
        self.assertLess(worst, bound, file)
        return file

    def test_llama_says_every_rotation(self):
        ours = {}
        for name in ROPES:
            for weights in ("llama", "llama_bias") if name == "resonance_yarn" else ("llama",):
                model = self.model(f"{weights}-{name}", weights, **rope(name))
                file = self.check(model, "llama")
                ours[name] = self.score(model)
        # A rotation that llama.cpp misread would be noticed: the rotations here differ by far more than the bound.
        self.assertGreater(self.deviation(ours["resonance_yarn"], self.folder / "llama-yarn.gguf"), 0.02)
        self.assertGreater(self.deviation(ours["yarn"], self.folder / "llama-default.gguf"), 0.02)
        self.assertGreater(self.deviation(ours["yarn"], self.folder / "llama-yarn_attention.gguf"), 0.02)

    def test_what_follows_the_length_is_refused(self):
        for settings in ({"rope_type": "dynamic", "factor": 2.0},
                         {"rope_type": "longrope", "factor": 4.0, "short_factor": [1.0] * 4, "long_factor": cases.FACTORS}):
            name = settings["rope_type"]
            model = self.model(f"llama-following-{name}", "llama", max_position_embeddings=TRAINED, rope_parameters={
                "rope_theta": 100.0, "original_max_position_embeddings": TRAINED, **settings})
            self.assertIn(name, self.export(model, expect=64).stderr)

    def test_others_say_what_keys_can(self):
        for name in EVERYWHERE:
            self.check(self.model(f"qwen2-{name}", "qwen2", **rope(name)), "qwen2")
            self.check(self.model(f"qwen3-{name}", "qwen3", **rope(name)), "qwen3")
        # qwen2's block is llama's with biases: rotations that qwen2's keys cannot express are exported as llama.
        for name in ("resonance_yarn", "llama3", "yarn_untruncated", "cope"):
            self.check(self.model(f"qwen2-{name}", "qwen2", **rope(name)), "llama")
        for name in ("resonance", "resonance_yarn", "llama3", "yarn_untruncated", "yarn_betas", "cope_yarn"):
            refused = self.export(self.model(f"qwen3-{name}", "qwen3", **rope(name)), expect=64)
            self.assertIn("llama3" if name == "llama3" else "resonance" if "resonance" in name else "yarn", refused.stderr)
            self.assertFalse((self.folder / f"qwen3-{name}.gguf").exists())

    def test_gemma3_and_relabelled_families(self):
        plain = families.CONFIGS["gemma3_defaults"]
        known = {**plain, "query_pre_attn_scalar": plain.get("head_dim", plain["hidden_size"] // plain["num_attention_heads"]),
                 "sliding_window_pattern": 6, "sliding_window": 16}
        for name, changes in {"own": {}, "linear": {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
                              "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                                                        "original_max_position_embeddings": TRAINED}}}.items():
            model = families.make(self.folder / f"gemma3-{name}", "gemma3_defaults", {**known, **changes})
            self.check(model, "gemma3", 6e-3)  # ggml reads gelu from a float16 table
        for name, changes, word in [("scalar", {"query_pre_attn_scalar": 100}, "query_pre_attn_scalar"),
                                    ("pattern", {"sliding_window_pattern": 3}, "windowed layers"),
                                    ("resonance", {"rope_scaling": {"rope_type": "default", "resonance": True}}, "resonance"),
                                    ("cap", {"final_logit_softcapping": 30.0}, "cap")]:
            model = families.make(self.folder / f"gemma3-{name}", "gemma3_defaults", {**known, **changes})
            self.assertIn(word, self.export(model, expect=64).stderr)
        # The same block as llama's: fused tensors are split.
        phi3 = families.make(self.folder / "phi3", "phi3", {**families.CONFIGS["phi3"], "sliding_window": None,
                                                            "partial_rotary_factor": 1.0})
        self.check(phi3, "llama")
        self.check(self.model("mistral-full", "mistral", sliding_window=None), "llama")
        self.assertIn("windows", self.export(self.model("mistral-window", "mistral"), expect=64).stderr)
        for name, word in [("smollm3", "no_rope_layers"), ("granite", "multiplier"), ("llama_sinks", "sinks"), ("olmo2", "norms")]:
            refused = self.export(families.make(self.folder / name, name), expect=64)
            self.assertIn(word, refused.stderr)

    def test_a_trained_model_at_four_times_its_length(self):
        base = self.model("base", "llama", max_position_embeddings=TRAINED)
        config = self.folder / "train.yaml"
        config.write_text(f"""
model: {{base: {base}}}
rope: {{type: resonance_yarn, factor: 4}}
data: {{train: [{{path: {self.data}}}], sequence_length: {TRAINED}, packing: split}}
train: {{max_steps: 3, learning_rate: 1e-3}}
runtime: {{dtype: float32}}
output: {self.folder}/run
""")
        bb.run(1, "train", config)
        file = self.check(self.folder / "run", "llama")
        reader = gguf.GGUFReader(file)
        self.assertEqual(reader.get_field("llama.context_length").contents(), 4 * TRAINED)
        self.assertEqual(reader.get_field("llama.rope.scaling.type").contents(), "none")
        prompt = self.documents[-1][:40]
        done = bb.run(1, "generate", f"model={self.folder}/run", f"tokens={prompt}", "max_new_tokens=20",
                      "runtime.dtype=float32", f"output={self.folder}/generated.jsonl")
        ours = json.loads((self.folder / "generated.jsonl").read_text().splitlines()[0])["tokens"]
        with llama_cpp.Model(LLAMA, file) as theirs:
            self.assertEqual(ours, theirs.greedy(prompt, 20))
        # Less exact types stay close, within the bound of each type.
        for dtype, bound in (("bf16", 0.5), ("f16", 0.05), ("q8_0", 1)):
            self.assertLess(self.deviation(self.score(self.folder / "run"),
                                           self.export(self.folder / "run", f"dtype={dtype}", name=dtype)), bound)

    def test_values_as_another_reader_sees_them(self):
        """Shapes, order of rows, types and blocks, against gguf's reader and quantisation."""
        from safetensors.numpy import save_file
        wide = {**cases.ARCHITECTURES["llama_bias"], "hidden_size": 64, "head_dim": 16, "intermediate_size": 32}
        model = self.model("wide", "llama_bias", **wide)
        draw = numpy.random.default_rng(5)
        shapes = {name: [{32: 64, 40: 32, 16: 32}.get(size, size) for size in shape]
                  for name, shape in shapes_of(model / "model.safetensors").items()}
        for i in range(2):
            for part, rows in (("q", 64), ("k", 32), ("v", 32), ("o", 64)):
                p = f"model.layers.{i}.self_attn.{part}_proj"
                shapes |= {f"{p}.weight": [rows, 64], f"{p}.bias": [rows]}
        values = {name: draw.normal(size=shape).astype(numpy.float32) for name, shape in shapes.items()}
        values["model.embed_tokens.weight"][3, :32] = 0  # a block of zeros
        save_file(values, model / "model.safetensors", {"format": "pt"})

        def turned(value, heads):
            return value.reshape(heads, 2, value.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(value.shape)

        wanted = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight",
                  "output_norm.weight": "model.norm.weight"}
        for i in range(2):
            for ours, theirs in {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
                                 "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
                                 "ffn_down": "mlp.down_proj"}.items():
                for kind in ("weight", "bias"):
                    wanted[f"blk.{i}.{ours}.{kind}"] = f"model.layers.{i}.{theirs}.{kind}"
            wanted |= {f"blk.{i}.attn_norm.weight": f"model.layers.{i}.input_layernorm.weight",
                       f"blk.{i}.ffn_norm.weight": f"model.layers.{i}.post_attention_layernorm.weight"}
        types = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
                 "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
        for dtype, kind in types.items():
            reader = gguf.GGUFReader(self.export(model, f"dtype={dtype}", name=f"wide-{dtype}"))
            tensors = {tensor.name: tensor for tensor in reader.tensors}
            self.assertEqual(set(tensors), set(wanted))
            for name, source in wanted.items():
                value, tensor = values[source], tensors[name]
                if ".attn_q." in name or ".attn_k." in name:
                    value = turned(value, 4 if "_q" in name else 2)
                self.assertEqual(tensor.shape.tolist(), list(value.shape)[::-1], name)
                self.assertEqual(tensor.tensor_type, kind if value.ndim == 2 else types["f32"], name)
                self.assertEqual(tensor.data.tobytes(), gguf.quants.quantize(value, tensor.tensor_type).tobytes(), name)
            fields = {name: field.contents() for name, field in reader.fields.items()}
            self.assertEqual(fields["general.file_type"], {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}[dtype])
            for key, value in {"block_count": 2, "embedding_length": 64, "feed_forward_length": 32, "vocab_size": 61,
                               "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16,
                               "rope.dimension_count": 16, "rope.freq_base": 100.0, "context_length": 64}.items():
                self.assertEqual(fields[f"llama.{key}"], value, key)
        # Rows whose length is no multiple of 32 are stored in f16, with a notice; values that f16 cannot hold are refused.
        narrow = self.model("narrow", "llama")
        done = bb.run(1, "export", narrow, self.folder / "narrow.gguf", "format=gguf", "dtype=q8_0")
        self.assertIn("f16", done.stderr)
        tensors = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(self.folder / "narrow.gguf").tensors}
        self.assertEqual(tensors["blk.0.ffn_down.weight"], types["f16"])  # 40 columns
        self.assertEqual(tensors["blk.0.ffn_up.weight"], types["q8_0"])
        values["lm_head.weight"][7, 9] = 70000
        save_file(values, model / "model.safetensors", {"format": "pt"})
        refused = self.export(model, "dtype=f16", name="beyond", expect=64)
        self.assertIn("lm_head.weight", refused.stderr)
        self.assertFalse((self.folder / "beyond.gguf").exists())
        self.assertEqual(list(self.folder.glob("*.tmp*")), [])

    def with_tokenizer(self, name, files, vocabulary=700):
        """A model of `vocabulary` rows with these tokenizer files."""
        from safetensors.numpy import save_file
        model = self.model(f"text-{name}", "llama", vocab_size=vocabulary)
        values = {name: numpy.ones([vocabulary if size == 61 else size for size in shape], numpy.float32)
                  for name, shape in shapes_of(model / "model.safetensors").items()}
        save_file(values, model / "model.safetensors", {"format": "pt"})
        for file, content in files.items():
            (model / file).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return model

    def golden(self, name):
        place = HERE.parent / "golden" / "tokenizers" / name
        return json.loads((place / "tokenizer.json").read_text()), json.loads((place / "expected.json").read_text())

    def test_byte_level_tokenizers(self):
        for name, pre in {"gpt2": "gpt-2", "smollm": "smollm", "qwen2": "qwen2", "llama3": "smaug-bpe"}.items():
            tokenizer, expected = self.golden(name)
            end = "<|endoftext|>"
            config = {"eos_token": end, "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"}
            model = self.with_tokenizer(name, {"tokenizer.json": tokenizer, "tokenizer_config.json": config})
            done = bb.run(1, "export", model, self.folder / f"{name}.gguf", "format=gguf")
            self.assertEqual("NFC" in done.stderr, name == "qwen2")
            fields = {key: field.contents() for key, field in gguf.GGUFReader(self.folder / f"{name}.gguf").fields.items()}
            self.assertEqual(fields["tokenizer.ggml.pre"], pre)
            used = len(tokenizer["model"]["vocab"])
            self.assertEqual(fields["tokenizer.ggml.tokens"][used:used + 2], [f"[PAD{used}]", f"[PAD{used + 1}]"])
            self.assertEqual(set(fields["tokenizer.ggml.token_type"][used:]), {5})
            self.assertEqual(fields["tokenizer.chat_template"], config["chat_template"])
            with llama_cpp.Model(LLAMA, self.folder / f"{name}.gguf") as theirs:
                compared = 0
                for row in expected:
                    if not row["text"] or (name == "qwen2" and "e\u0301" in row["text"]):
                        continue
                    import unicodedata
                    text = unicodedata.normalize("NFC", row["text"]) if name == "qwen2" else row["text"]
                    self.assertEqual(theirs.tokenize(text), row["ids"], (name, row["text"]))
                    self.assertEqual(theirs.tokenize(text, special=True), row["with_special"], (name, row["text"]))
                    compared += 1
                self.assertGreater(compared, 14)
                self.assertEqual(theirs.template(), config["chat_template"])
                self.assertTrue(LLAMA.llama_vocab_is_eog(theirs.vocab, tokenizer["model"]["vocab"].get(end, 0)))
        # A word that is a token is taken whole: llama.cpp only has a name for this pre-tokenizer with that rule.
        tokenizer, _ = self.golden("llama3")
        tokenizer["model"]["ignore_merges"] = True
        files = {"tokenizer.json": tokenizer, "tokenizer_config.json": {"eos_token": "<|endoftext|>"}}
        file = self.export(self.with_tokenizer("whole", files))
        self.assertEqual(gguf.GGUFReader(file).get_field("tokenizer.ggml.pre").contents(), "llama-bpe")

    def test_sentence_piece_tokenizers(self):
        tokenizer, expected = self.golden("llama2")
        files = {"tokenizer.json": tokenizer, "tokenizer_config.json": {"eos_token": "</s>", "bos_token": "<s>"}}
        # Its trainer wrote one merge per token, so SentencePiece would tokenise differently.
        refused = self.export(self.with_tokenizer("single", files), expect=64)
        self.assertIn("does not merge", refused.stderr)
        # All splits of each token, as in a converted SentencePiece model.
        vocabulary = tokenizer["model"]["vocab"]
        order = {}
        for merge in tokenizer["model"]["merges"]:
            order.setdefault("".join(merge if isinstance(merge, list) else merge.split(" ")), len(order))
        tokenizer["model"]["merges"] = [
            [token[:i], token[i:]] for token in sorted(order, key=order.get) for i in range(1, len(token))
            if token[:i] in vocabulary and token[i:] in vocabulary]
        model = self.with_tokenizer("all-splits", files)
        file = self.export(model)
        self.assertTrue(gguf.GGUFReader(file).get_field("tokenizer.ggml.add_space_prefix").contents())
        texts = [row["text"] for row in expected if row["text"]]
        source = self.folder / "texts.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        output = self.folder / "tokens.h5"
        bb.run(1, "tokenize", source, f"tokenizer={model}", f"output={output}", "overwrite=true")
        import h5py
        with h5py.File(output) as tokens:
            begin, all_ = tokens["document_begin"][:], tokens["tokens"][:]
        with llama_cpp.Model(LLAMA, file) as theirs:
            for i, text in enumerate(texts):
                ours = all_[begin[i]:begin[i + 1]].tolist()
                ours = ours[:-1] if ours[-1] == vocabulary["</s>"] else ours
                self.assertEqual(theirs.tokenize(text, special=True), ours, text)

    def test_a_sentence_piece_model_alone(self):
        """tokenizer.model only, written here as a protocol buffer; Carillon tokenises with the library."""
        def field(number, content):
            size, prefix = len(content), b""
            while size > 127:
                prefix, size = prefix + bytes([size & 127 | 128]), size >> 7
            return bytes([number << 3 | 2]) + prefix + bytes([size]) + content

        def model_of(kind=2, normalizer=b"\x20\x00"):
            raw = b""
            for rank, (text, token_type) in enumerate(pieces):
                raw += field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", -rank) + bytes([0x18, token_type]))
            return raw + field(2, bytes([0x18, kind]) + b"\x98\x02\x01") + field(3, field(1, b"identity") + normalizer)

        golden, _ = self.golden("llama2")
        pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{i:02X}>", 6) for i in range(256)] + [("\u2581\u2581\u2581", 4)]
        taken = {text for text, _ in pieces}
        merged = ["".join(m if isinstance(m, list) else m.split(" ")) for m in golden["model"]["merges"]]
        letters = sorted({c for token in golden["model"]["vocab"] if not token.startswith("<") for c in token})
        pieces += [(text, 1) for text in dict.fromkeys(merged + letters) if text not in taken]
        model = self.with_tokenizer("pieces", {"tokenizer.model": model_of()}, vocabulary=len(pieces) + 2)
        file = self.export(model)
        texts = ["hello world", "the quick brown fox", " two  blanks", "in the middle of things", "unseen: \u4f60\u597d \u20ac", "a\nb"]
        source, output = self.folder / "pieces.jsonl", self.folder / "pieces.h5"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        bb.run(1, "tokenize", source, f"tokenizer={model}", f"output={output}")
        import h5py
        with h5py.File(output) as tokens:
            begin, all_ = tokens["document_begin"][:], tokens["tokens"][:]
        with llama_cpp.Model(LLAMA, file) as theirs:
            for i, text in enumerate(texts):
                ours = all_[begin[i]:begin[i + 1]].tolist()
                ours = ours[:-1] if ours[-1] == 2 else ours
                self.assertEqual(theirs.tokenize(text, special=True), ours, text)
        fields = {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}
        self.assertEqual(fields["tokenizer.ggml.token_type"][:3] + fields["tokenizer.ggml.token_type"][-2:], [2, 3, 3, 5, 5])
        for name, made, word in [("unigram", model_of(kind=1), "Unigram"), ("extra", model_of(normalizer=b""), "removes blanks"),
                                 ("mapped", model_of(normalizer=field(2, b"map") + b"\x20\x00"), "precompiled_charsmap")]:
            refused = self.with_tokenizer(name, {"tokenizer.model": made}, vocabulary=len(pieces))
            done = self.export(refused, expect=None)
            # An invalid map is refused when the tokenizer is opened.
            self.assertIn(done.returncode, (64, 65) if name == "mapped" else (64,), done.stderr)
            if done.returncode == 64:
                self.assertIn(word, done.stderr)

    def test_what_llama_cpp_has_no_word_for(self):
        base, _ = self.golden("gpt2")
        named = {"eos_token": "<|endoftext|>"}

        def changed(path, value):
            copy = json.loads(json.dumps(base))
            at = copy
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
            return copy

        split = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\w+|\\W"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
        for word, files in {
                "cuts words": {"tokenizer.json": changed(["pre_tokenizer"], split), "tokenizer_config.json": named},
                "Lowercase": {"tokenizer.json": changed(["normalizer"], {"type": "Lowercase"}), "tokenizer_config.json": named},
                "lstrip": {"tokenizer.json": changed(["added_tokens", 0, "lstrip"], True), "tokenizer_config.json": named},
                "ignore_merges": {"tokenizer.json": changed(["model", "ignore_merges"], True), "tokenizer_config.json": named}}.items():
            model = self.with_tokenizer("refused-" + word.split()[0], files)
            refused = self.export(model, expect=64)
            self.assertIn(word, refused.stderr)
            self.assertFalse((self.folder / f"{model.name}.gguf").exists())
        few = self.with_tokenizer("few", {"tokenizer.json": base, "tokenizer_config.json": named}, vocabulary=100)
        self.assertIn("100 rows", self.export(few, expect=65).stderr)

    def test_outputs_and_arguments(self):
        model = self.model("outputs", "llama")
        out = self.folder / "outputs.gguf"
        for _ in range(2):  # a file written by Carillon is replaced
            bb.run(1, "export", model, out, "format=gguf")
        before = (model / "model.safetensors").read_bytes()
        bb.run(1, "export", model, model / "model.safetensors", "format=gguf", "overwrite=true", expect=64)
        self.assertEqual((model / "model.safetensors").read_bytes(), before)
        strangers = self.folder / "strangers.gguf"
        strangers.write_bytes(b"GGUF\3\0\0\0" + bytes(64))
        bb.run(1, "export", model, strangers, "format=gguf", expect=64)
        self.assertEqual(strangers.read_bytes(), b"GGUF\3\0\0\0" + bytes(64))
        bb.run(1, "export", model, strangers, "format=gguf", "overwrite=true")
        bb.run(1, "export", model, self.folder, "format=gguf", expect=64)
        self.assertIn("dtype", bb.run(1, "export", model, self.folder / "hf", "dtype=f16", expect=64).stderr)
        self.assertIn("q8_0", bb.run(1, "export", model, self.folder / "x.gguf", "format=gguf", "dtype=q4_0", expect=64).stderr)
        bb.run(1, "export", model, self.folder / "nowhere" / "x.gguf", "format=gguf", expect=73)
        bb.run(2, "export", model, out, "format=gguf")  # under mpirun one rank writes


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
