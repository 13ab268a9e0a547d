"""Model folders as other programs write them: import, score and export agree on what they accept and on their messages."""

import json
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support")]
import black_box as bb
import tiny_model as tiny


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.input = tiny.documents(self.folder / "in.jsonl")
        self.number = 0

    def score(self, model, expect=0):
        self.number += 1
        output = self.folder / f"scores-{self.number}.jsonl"
        done = bb.run(1, "score", f"model={model}", f"input={self.input}", f"output={output}", "runtime.dtype=float64",
                      expect=expect)
        if expect != 0:
            return done
        self.said = done.stderr
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def imported(self, source, expect=0):
        self.number += 1
        target = self.folder / f"model-{self.number}.h5"
        done = bb.run(1, "import", source, target, expect=expect)
        self.said = done.stderr
        return target if expect == 0 else done

    def exported(self, source, target, expect=0):
        done = bb.run(1, "export", source, target, expect=expect)
        self.said = done.stderr
        return done

    def refused(self, source, *words, expect=65):
        """Refused by import, score and export with the same message."""
        for done in (self.imported(source, expect), self.score(source, expect),
                     self.exported(source, self.folder / "refused", expect)):
            self.assertEqual(done.stderr.count("carillon: error:"), 1, done.stderr)
            line = next(line for line in done.stderr.splitlines() if line.startswith("carillon: error:"))
            for word in words:
                self.assertIn(word, line)
        self.assertFalse((self.folder / "refused").exists())

    def same_everywhere(self, source):
        """Scores of the folder, its import and its export are equal; returns them."""
        scores = self.score(source)
        self.assertEqual(self.score(self.imported(source)), scores)
        self.exported(source, self.folder / f"again-{self.number}")
        self.assertEqual(self.score(self.folder / f"again-{self.number}"), scores)
        return scores


class Names(Case):
    def test_a_model_without_its_prefix(self):
        tensors = tiny.weights()
        bare = {name.removeprefix("model."): value for name, value in tensors.items()}
        expected = self.score(tiny.folder(self.folder / "whole", tensors))
        self.assertEqual(self.same_everywhere(tiny.folder(self.folder / "bare", bare)), expected)
        self.assertEqual(self.same_everywhere(tiny.sharded(self.folder / "shards", bare, shards=3)), expected)

    def test_wrappers_are_named(self):
        for prefix in ("_orig_mod.", "module."):
            tensors = {prefix + name: value for name, value in tiny.weights().items()}
            shutil.rmtree(self.folder / "m", ignore_errors=True)
            self.refused(tiny.folder(self.folder / "m", tensors), prefix, "rename")

    def test_the_text_model_of_a_wrapper_by_any_prefix(self):
        """Wrappers call their text model differently; the tower beside it has names of its own."""
        expected = self.score(tiny.folder(self.folder / "plain"))
        config = {"architectures": ["SmolVLMForConditionalGeneration"], "model_type": "smolvlm",
                  "text_config": tiny.CONFIG, "tie_word_embeddings": False}
        for number, (body, head) in enumerate((
                ("model.text_model.", ""), ("model.language_model.", ""), ("language_model.model.", "language_model."),
                ("text_model.model.", "text_model."), ("model.", ""), ("llm.", "llm."))):
            tensors = {"model.vision_model.encoder.layers.0.self_attn.q_proj.weight": ("F32", [1], bytes(4))}
            for name, value in tiny.weights().items():
                tensors[head + name if name.startswith("lm_head") else body + name.removeprefix("model.")] = value
            folder = tiny.folder(self.folder / f"w{number}", tensors, config)
            self.assertEqual(self.same_everywhere(folder), expected)
            self.imported(folder)
            self.assertIn("holds 1 tensor of the vision part, left out", self.said)

    def test_names_that_no_hdf5_file_holds(self):
        for number, name in enumerate(("", ".", "lm_head.weight/x", "lm_head.weight\0x")):
            folder = tiny.folder(self.folder / f"n{number}", {**tiny.weights(), name: ("F32", [1], bytes(4))})
            self.score(folder)  # where the tensor is of no use
            done = self.imported(folder, expect=65)
            self.assertIn("no HDF5 file can hold", done.stderr)
            self.assertIn("model.safetensors", done.stderr)

    def test_a_tied_model_stored_as_its_head(self):
        config = {**tiny.CONFIG, "tie_word_embeddings": True}
        tensors = tiny.weights()
        tensors["model.embed_tokens.weight"] = tensors.pop("lm_head.weight")
        expected = self.score(tiny.folder(self.folder / "tied", tensors, config))
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        self.assertEqual(self.same_everywhere(tiny.folder(self.folder / "head", tensors, config)), expected)


class Tensors(Case):
    def test_missing_and_misshapen(self):
        tensors = tiny.weights()
        del tensors["model.layers.0.mlp.up_proj.weight"]
        self.refused(tiny.folder(self.folder / "missing", tensors), "1 tensor is missing", "mlp.up_proj.weight")
        tensors = tiny.weights()
        dtype, shape, raw = tensors["model.layers.0.self_attn.k_proj.weight"]
        tensors["model.layers.0.self_attn.k_proj.weight"] = (dtype, shape[::-1], raw)
        self.refused(tiny.folder(self.folder / "shape", tensors), "k_proj.weight is [8, 4]", "[4, 8]")
        config = {**tiny.CONFIG, "num_hidden_layers": 2}
        self.refused(tiny.folder(self.folder / "layers", config=config), "9 tensors are missing")

    def test_a_model_that_sees_what_comes_after_is_refused(self):
        self.refused(tiny.folder(self.folder / "m", config={**tiny.CONFIG, "is_causal": False}), "is_causal", "causal")
        self.score(tiny.folder(self.folder / "m", config={**tiny.CONFIG, "is_causal": True}))

    def test_a_factor_below_one_is_the_models_own(self):
        # transformers warns of it and divides; only to ask for one is a mistake of ours.
        scaling = {"rope_type": "linear", "factor": 0.5}
        model = tiny.folder(self.folder / "m", config={**tiny.CONFIG, "rope_scaling": scaling})
        self.assertNotEqual(self.same_everywhere(model), self.score(tiny.folder(self.folder / "plain")))
        done = bb.run(1, "score", f"model={model}", f"input={self.input}", f"output={self.folder}/x.jsonl", "rope.factor=0.5",
                      expect=64)
        self.assertIn("rope.factor", done.stderr)

    def test_what_transformers_leaves_out_is_said(self):
        two = {**tiny.CONFIG, "architectures": ["LlamaForCausalLM"]}
        for key, settings in {"sliding_window": {"sliding_window": 3},
                              "layer_types": {"sliding_window": 3, "layer_types": ["sliding_attention"]},
                              "no_rope_layers": {"no_rope_layers": [0]},
                              "alpha": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "alpha": 5.0}},
                              "partial_rotary_factor": {"partial_rotary_factor": 0.5}}.items():
            model = tiny.folder(self.folder / f"out-{key}", config={**two, **settings})
            self.score(model)
            self.assertIn(f"{'sliding_window' if key == 'layer_types' else key}", self.said)
            self.assertIn("transformers' LlamaForCausalLM leaves it out", self.said, key)
            self.assertEqual(self.said.count("leaves it out"), 1, self.said)
        self.score(tiny.folder(self.folder / "said", config={**two, "sliding_window": None, "layer_types": ["full_attention"]}))
        self.assertNotIn("leaves it out", self.said)

    def test_lists_of_factors_that_do_not_fit_are_the_files_fault(self):
        pairs = tiny.CONFIG["hidden_size"] // tiny.CONFIG["num_attention_heads"] // 2
        for short, long in ((pairs + 1, pairs), (pairs, pairs + 1)):
            shutil.rmtree(self.folder / "m", ignore_errors=True)
            scaling = {"rope_type": "longrope", "short_factor": [1.0] * short, "long_factor": [2.0] * long, "factor": 2.0,
                       "original_max_position_embeddings": 16}
            self.refused(tiny.folder(self.folder / "m", config={**tiny.CONFIG, "rope_scaling": scaling}),
                         "short_factor" if short > pairs else "long_factor", f"{pairs} rotary pairs", str(self.folder / "m"))

    def test_sizes_are_bounded_by_what_is_stored(self):
        for key, value in (("num_hidden_layers", 10**9), ("vocab_size", 10**12), ("intermediate_size", 10**12)):
            shutil.rmtree(self.folder / "m", ignore_errors=True)
            self.refused(tiny.folder(self.folder / "m", config={**tiny.CONFIG, key: value}), key)

    def test_a_quantised_weight_is_named_a_buffer_is_not_in_the_way(self):
        tensors = tiny.weights()
        expected = self.score(tiny.folder(self.folder / "plain", tensors))
        tensors["model.layers.0.self_attn.masked_bias"] = ("I64", [3], bytes(24))
        tensors["model.position_ids"] = ("I32", [1, 4], bytes(16))
        self.assertEqual(self.same_everywhere(tiny.folder(self.folder / "buffers", tensors)), expected)
        self.assertIn("2 tensors that are no floating-point numbers", bb.run(
            1, "import", self.folder / "buffers", self.folder / "b.h5").stderr)
        dtype, shape, raw = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = ("U8", shape, bytes(8))
        self.refused(tiny.folder(self.folder / "quantised", tensors), "model.norm.weight is U8")
        # All matrices in 8 bits, and no quantization_config.
        narrow = {name: ("F8_E4M3", shape, bytes(len(raw) // 4)) if len(shape) == 2 else (dtype, shape, raw)
                  for name, (dtype, shape, raw) in tiny.weights().items()}
        self.refused(tiny.folder(self.folder / "narrow", narrow), "weight is F8_E4M3", "dequantise")

    def test_lost_weights_are_named(self):
        for name, index, bits in (("model.norm.weight", "[5]", 0x7FC00000), ("lm_head.weight", "[2, 3]", 0x7F800000),
                                  ("model.layers.0.mlp.down_proj.weight", "[0, 0]", 0xFF800000)):
            tensors = tiny.weights()
            dtype, shape, raw = tensors[name]
            at = {"[5]": 5, "[2, 3]": 2 * 8 + 3, "[0, 0]": 0}[index]
            tensors[name] = (dtype, shape, raw[:4 * at] + struct.pack("<I", bits) + raw[4 * at + 4:])
            shutil.rmtree(self.folder / "m", ignore_errors=True)
            self.refused(tiny.folder(self.folder / "m", tensors), name, index)


class TiedHead(Case):
    def test_a_head_that_differs_is_used(self):
        tensors = tiny.weights()
        untied = self.score(tiny.folder(self.folder / "untied", tensors))
        tied = {**tiny.CONFIG, "tie_word_embeddings": True}
        model = tiny.folder(self.folder / "tied", tensors, tied)
        self.assertEqual(self.same_everywhere(model), untied)
        self.score(model)
        self.assertEqual(self.said.count("lm_head.weight"), 1)
        self.assertIn("tie_word_embeddings", self.said)
        # After import or export the model no longer contradicts itself.
        self.exported(model, self.folder / "out")
        self.assertIs(json.loads((self.folder / "out/config.json").read_text())["tie_word_embeddings"], False)
        self.score(self.imported(model))
        self.assertNotIn("lm_head", self.said)

    def test_a_head_that_is_the_same_is_not_spoken_of(self):
        tensors = tiny.weights()
        del tensors["lm_head.weight"]
        tied = {**tiny.CONFIG, "tie_word_embeddings": True}
        expected = self.score(tiny.folder(self.folder / "without", tensors, tied))
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        self.assertEqual(self.same_everywhere(tiny.folder(self.folder / "with", tensors, tied)), expected)
        self.score(self.folder / "with")
        self.assertEqual(self.said, "")
        # The same numbers in another type.
        dtype, shape, raw = tensors["lm_head.weight"]
        values = struct.unpack(f"<{len(raw) // 4}f", raw)
        tensors["lm_head.weight"] = ("F64", shape, struct.pack(f"<{len(values)}d", *values))
        self.assertEqual(self.score(tiny.folder(self.folder / "wide", tensors, tied)), expected)


class Leftovers(Case):
    def test_one_file_counts_before_an_index(self):
        old, new = tiny.weights(1), tiny.weights(2)
        model = tiny.sharded(self.folder / "m", old)
        tiny.folder(model, new)
        self.assertEqual(self.score(model), self.score(tiny.folder(self.folder / "new", new)))
        self.score(model)
        self.assertIn("model.safetensors.index.json", self.said)

    def test_an_index_without_its_files(self):
        model = tiny.sharded(self.folder / "m")
        (model / "model-00002-of-00002.safetensors").unlink()
        self.refused(model, "model-00002-of-00002.safetensors", "index", expect=66)

    def test_tensors_beside_the_index_are_counted(self):
        model = tiny.sharded(self.folder / "m")
        expected = self.score(model)
        index = json.loads((model / "model.safetensors.index.json").read_text())
        file = model / "model-00001-of-00002.safetensors"
        part = {name: value for name, value in tiny.weights().items() if index["weight_map"][name] == file.name}
        file.write_bytes(tiny.safetensors({**part, "extra.weight": ("F32", [1], bytes(4))}))
        self.assertEqual(self.score(model), expected)
        self.assertIn("1 tensors in the files", self.said)

    def test_export_replaces_a_model_whole_and_nothing_else(self):
        new = tiny.folder(self.folder / "new", tiny.weights(2))
        expected = self.score(new)
        target = tiny.sharded(self.folder / "out", tiny.weights(1), shards=3)
        for name in ("tokenizer.json", "special_tokens_map.json", "generation_config.json"):
            (target / name).write_text("{}")
        (target / "README.md").write_text("mine")
        (target / "adapter_model.safetensors").write_bytes(b"mine too")
        self.exported(new, target)
        self.assertEqual(sorted(path.name for path in target.iterdir()),
                         ["README.md", "adapter_model.safetensors", "config.json", "model.safetensors"])
        self.assertEqual(self.score(target), expected)
        self.assertEqual([path.name for path in self.folder.iterdir() if ".tmp-" in path.name], [])
        self.exported(new, target)  # a second time, replacing its own files
        self.assertEqual(self.score(target), expected)
        # With its configuration an adapter is a model, which readers would apply to the new one.
        (target / "adapter_config.json").write_text("{}")
        self.exported(new, target)
        self.assertEqual(sorted(path.name for path in target.iterdir()), ["README.md", "config.json", "model.safetensors"])
        self.assertEqual(self.score(target), expected)

    def test_a_refused_export_leaves_the_former_model(self):
        target = tiny.sharded(self.folder / "out", tiny.weights(1))
        before = {path.name: path.read_bytes() for path in target.iterdir()}
        tensors = tiny.weights(2)
        dtype, shape, raw = tensors["model.norm.weight"]
        tensors["model.norm.weight"] = (dtype, shape, struct.pack("<I", 0x7FC00000) + raw[4:])
        self.exported(tiny.folder(self.folder / "nan", tensors), target, expect=65)
        self.assertEqual({path.name: path.read_bytes() for path in target.iterdir()}, before)
        self.assertEqual([path.name for path in self.folder.iterdir() if ".tmp-" in path.name], [])


class OtherFiles(Case):
    def test_weights_alone_and_foreign_formats_are_told_what_to_do(self):
        model = tiny.folder(self.folder / "m")
        gguf, pickle = self.folder / "m.gguf", self.folder / "pytorch_model.bin"
        gguf.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
        pickle.write_bytes(b"PK\x03\x04" + bytes(40))
        renamed = self.folder / "weights"
        renamed.write_bytes((model / "model.safetensors").read_bytes())
        for path, words in ((model / "model.safetensors", ["give the folder", str(model)]), (gguf, ["GGUF", "folder"]),
                            (pickle, ["PyTorch", "safetensors"]), (renamed, ["give the folder"])):
            self.refused(path, *words)
            done = bb.run(1, "inspect", path, expect=65)
            self.assertIn(words[0], done.stderr)

    def test_every_file_of_the_tokenizer_is_kept(self):
        model = tiny.folder(self.folder / "m")
        kept = {"tokenizer.json": b'{"model": {"type": "BPE"}}', "tokenizer_config.json": b'{"eos_token": "a"}',
                "special_tokens_map.json": b'{"eos_token": "\xc3\xa4"}', "chat_template.jinja": b"{{ messages }}",
                "generation_config.json": b'{"eos_token_id": [1, 2]}',
                "additional_chat_templates/tool_use.jinja": b"{{ tools }}",
                "tokenizer.model": bytes(range(256)) * 400}  # not text, and larger than an attribute could be before HDF5 1.8
        for name, content in kept.items():
            (model / name).parent.mkdir(exist_ok=True)
            (model / name).write_bytes(content)
        file = self.imported(model)
        self.exported(file, self.folder / "out")
        for name, content in kept.items():
            self.assertEqual((self.folder / "out" / name).read_bytes(), content, name)
        # The template of a former model does not remain with the next one.
        bare = tiny.folder(self.folder / "bare")
        self.exported(bare, self.folder / "out")
        self.assertEqual(sorted(path.name for path in (self.folder / "out").iterdir()), ["config.json", "model.safetensors"])

    def test_generation_ends_at_each_of_the_models_ends(self):
        """The ends from generation_config.json, else from config.json, in addition to the tokenizer's, as in transformers."""
        tokens = {chr(97 + i): i for i in range(23)}

        def generated(name, config=None, generation=None, tokenizer=True, keys=()):
            model = tiny.folder(self.folder / name, config={**tiny.CONFIG, **(config or {})})
            if tokenizer:
                (model / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": tokens, "merges": []}}))
            if generation:
                (model / "generation_config.json").write_text(json.dumps(generation))
            done = bb.run(1, "generate", f"model={model}", "tokens=[1,2]", "max_new_tokens=6", "runtime.dtype=float64", *keys, "--json")
            return json.loads(done.stdout)["tokens"]
        whole = generated("none")
        self.assertEqual(len(whole), 6)
        other = next(token for token in range(23) if token not in whole)
        end = whole[1]
        ended = whole[:whole.index(end) + 1]
        self.assertEqual(generated("list", generation={"eos_token_id": [other, end]}), ended)
        self.assertEqual(generated("one", generation={"eos_token_id": end}), ended)
        self.assertEqual(generated("config", config={"eos_token_id": [other, end]}), ended)
        self.assertEqual(generated("null", config={"eos_token_id": end}, generation={"eos_token_id": None}), ended)
        self.assertEqual(generated("off", config={"eos_token_id": end}, keys=["stop_at_end=false"]), whole)
        self.assertEqual(generated("ids", config={"eos_token_id": end}, tokenizer=False), whole)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
