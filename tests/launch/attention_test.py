"""`carillon eval` with task attention: the first layer against plain Python, sums that must hold in every layer, equal
results on every layout; and the use of pair power in `carillon rope`."""

import json
import math
import pathlib
import random
import shutil
import struct
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder

LAYOUTS = [(2, ["parallel.context=2"]), (4, ["parallel.context=4", "parallel.layout=contiguous"]), (2, ["parallel.tensor=2"]),
           (4, ["parallel.tensor=4"]), (4, ["parallel.tensor=2", "parallel.context=2"]), (2, ["parallel.data=2"])]


def tensors_of(folder):
    """name -> (shape, values) of the bfloat16 tensors in a folder"""
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    result = {}
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + at for at in tensor["data_offsets"])
        assert tensor["dtype"] == "BF16"
        raw = data[begin:end]
        values = [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
        result[name] = tensor["shape"], values
    return result


def times(matrix, vector):
    (rows, columns), values = matrix
    return [sum(values[r * columns + c] * vector[c] for c in range(columns)) for r in range(rows)]


def first_layer(folder, config, documents, window=None):
    """Entropies by head, attention mass by distance and on the first four tokens, and pair powers of layer 0, over all
    queries."""
    weights, width = tensors_of(folder), config["head_dim"]
    heads, kv_heads, pairs = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"] // 2
    entropy, first, mass = [0.0] * heads, [0.0] * heads, {}
    query_power = [[0.0] * pairs for _ in range(heads)]
    key_power = [[0.0] * pairs for _ in range(kv_heads)]
    queries = 0
    for tokens in documents:
        q, k = [], []
        for position, token in enumerate(tokens):
            channels = config["hidden_size"]
            x = weights["model.embed_tokens.weight"][1][token * channels:(token + 1) * channels]
            scale = 1 / math.sqrt(sum(v * v for v in x) / channels + config["rms_norm_eps"])
            x = [v * scale * w for v, w in zip(x, weights["model.layers.0.input_layernorm.weight"][1])]
            rows = []
            for name, count in (("q", heads), ("k", kv_heads)):
                flat = times(weights[f"model.layers.0.self_attn.{name}_proj.weight"], x)
                turned = []
                for h in range(count):
                    head = flat[h * width:(h + 1) * width]
                    angles = [position * 100.0 ** (-2 * i / width) for i in range(pairs)]
                    turned.append([head[i] * math.cos(a) - head[i + pairs] * math.sin(a) for i, a in enumerate(angles)] +
                                  [head[i] * math.sin(a) + head[i + pairs] * math.cos(a) for i, a in enumerate(angles)])
                rows.append(turned)
            q.append(rows[0])
            k.append(rows[1])
        queries += len(tokens)
        for i in range(len(tokens)):
            for h in range(kv_heads):
                for p in range(pairs):
                    key_power[h][p] += k[i][h][p] ** 2 + k[i][h][p + pairs] ** 2
            begin = 0 if window is None else max(0, i - window + 1)
            for h in range(heads):
                for p in range(pairs):
                    query_power[h][p] += q[i][h][p] ** 2 + q[i][h][p + pairs] ** 2
                scores = [sum(a * b for a, b in zip(q[i][h], k[j][h * kv_heads // heads])) / math.sqrt(width)
                          for j in range(begin, i + 1)]
                total = math.log(sum(math.exp(s) for s in scores))
                for j, s in zip(range(begin, i + 1), scores):
                    p = math.exp(s - total)
                    entropy[h] -= p * (s - total)
                    first[h] += p if j < 4 else 0
                    bin_ = (i - j).bit_length()
                    mass[bin_] = mass.get(bin_, 0) + p
    power = [sum(query_power[h][p] * key_power[h * kv_heads // heads][p] for h in range(heads)) for p in range(pairs)]
    return ([e / queries for e in entropy], [f / queries for f in first], {b: m / queries / heads for b, m in mass.items()},
            [p / sum(power) for p in power])


class Attention(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        draw = random.Random(2)
        cls.documents = [[draw.randrange(61) for _ in range(length)] for length in (40, 3, 29)]
        (cls.folder / "data.jsonl").write_text("".join(json.dumps({"tokens": tokens}) + "\n" for tokens in cls.documents))
        cls.model = golden_folder.make(cls.folder, "model", "llama", cases.ARCHITECTURES["llama"])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def measure(self, model, *keys, ranks=1, queries=1000, expect=0, **task):
        task = {"task": "attention", "data": [{"path": str(self.folder / "data.jsonl")}], "queries": queries, **task}
        done = bb.run(ranks, "eval", f"model={model}", "length=40", f"task={json.dumps(task)}", "runtime.dtype=float64", *keys,
                      expect=expect)
        return json.loads(done.stdout)["metrics"] if expect == 0 else done.stderr

    def close(self, a, b, what, bound=1e-10):
        if isinstance(a, dict):
            self.assertEqual(list(a), list(b), what)
            for key in a:
                self.close(a[key], b[key], f"{what}.{key}", bound)
        elif isinstance(a, list):
            self.assertEqual(len(a), len(b), what)
            for i, (x, y) in enumerate(zip(a, b)):
                self.close(x, y, f"{what}[{i}]", bound)
        else:
            self.assertAlmostEqual(a, b, delta=bound * max(1, abs(b)), msg=what)

    def test_the_first_layer_is_that_of_plain_python(self):
        one_layer = {**cases.ARCHITECTURES["llama"], "num_hidden_layers": 1}
        one = golden_folder.make(self.folder, "one", "llama", one_layer)
        windowed = golden_folder.make(self.folder, "windowed", "llama", {**one_layer, "model_type": "mistral", "sliding_window": 9})
        for model, window in ((one, None), (windowed, 9)):
            entropy, first, mass, power = first_layer(model, cases.ARCHITECTURES["llama"], self.documents, window)
            found = self.measure(model)
            self.assertEqual(found["queries"], 72)
            self.close(found["entropy_by_head"][0], entropy, "entropy")
            self.close(found["first_tokens_mass_by_head"][0], first, "first")
            self.close({entry["from"]: entry["mass"] for entry in found["mass_by_distance"]},
                       {0 if b == 0 else 1 << (b - 1): mass.get(b, 0.0) for b in range(7)}, "mass")
            self.close(found["entropy"], sum(entropy) / len(entropy), "mean")
            self.close(found["pair_power"], power, "power")

    def test_sums_hold_and_every_layout_agrees(self):
        for model in (self.model, golden_folder.make(self.folder, "mqa", "llama_mqa", cases.ARCHITECTURES["llama_mqa"])):
            one = self.measure(model, queries=7)
            self.assertEqual(one["queries"], 7 + 3 + 7)
            self.assertAlmostEqual(sum(entry["mass"] for entry in one["mass_by_distance"]), 1, places=12)
            self.assertAlmostEqual(sum(one["pair_power"]), 1, places=12)
            for entry in one["entropy_by_position"]:
                self.assertLessEqual(entry["entropy"], math.log(entry["to"]) + 1e-12)
            self.assertEqual(sum(entry["queries"] for entry in one["entropy_by_position"]), one["queries"])
            for ranks, keys in LAYOUTS:
                self.close(self.measure(model, *keys, ranks=ranks, queries=7), one, str(keys))

    def test_rope_weighs_pairs_by_their_power(self):
        found = self.measure(self.model)
        (self.folder / "power.json").write_text(json.dumps({"metrics": found}))
        rope = ["rope", "--json", "rope.resonance=true", "rope.base=100", "model.head_dim=8", "length=400",
                "rope.original_max_position_embeddings=64", "distance=100"]
        alike = json.loads(bb.run(1, *rope).stdout)
        weighed = json.loads(bb.run(1, *rope, f"pair_power={self.folder}/power.json").stdout)
        for pair, (a, w) in enumerate(zip(alike["pairs"], weighed["pairs"], strict=True)):
            theta = 100.0 ** (-2 * pair / 8)
            rounded = 2 * math.pi / round(2 * math.pi / theta)
            turned = 100 * (rounded - theta)
            self.assertAlmostEqual(math.cos(a["phase_shift"]), math.cos(turned), places=10)
            self.assertAlmostEqual(math.sin(a["phase_shift"]), math.sin(turned), places=10)
            self.assertAlmostEqual(a["movable_share"], 2 * (1 - math.cos(turned)) / 4, places=10)
            self.assertAlmostEqual(w["movable_share"], 2 * (1 - math.cos(turned)) * found["pair_power"][pair], places=10)
        self.assertEqual(alike["movable_by_distance"][-1]["distance"], 399)
        self.assertIn("measured power", bb.run(1, *[word for word in rope if word != "--json"],
                                               f"pair_power={self.folder}/power.json").stdout)
        self.assertIn("rotary pairs", bb.run(1, *rope, f"pair_power={self.folder}/power.json", "model.head_dim=16", expect=64).stderr)
        bb.run(1, *rope, f"pair_power={self.folder}/data.jsonl", expect=65)
        bb.run(1, *rope, f"pair_power={self.folder}/nothing.json", expect=66)

    def test_what_cannot_be_measured_is_refused(self):
        for key in ("queries", "windows", "first_tokens"):
            self.assertIn(key, self.measure(self.model, expect=64, **{key: 0}))
        (self.folder / "one.jsonl").write_text('{"tokens": [1]}\n')
        self.assertIn("two tokens", self.measure(self.model, expect=65, data=[{"path": str(self.folder / "one.jsonl")}]))


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
