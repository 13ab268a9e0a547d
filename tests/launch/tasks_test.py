"""The tasks with long prompts, and `carillon generate`: prompts, answers and scores as computed in plain Python, on every
layout."""

import json
import math
import pathlib
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
import tiny_model
from retrieval_prompts import Prompts

LAYOUTS = {"1": (1, []), "cp2": (2, ["parallel.context=2"]), "cp4": (4, ["parallel.context=4"]),
           "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"]), "dp2": (2, ["parallel.data=2"])}
VOCABULARY = cases.GEOMETRY["vocab_size"]
YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "resonance": True}
TASKS = ["passkey", "needle", "niah_single", "niah_multikey", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe"]


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.model = golden_folder.make(cls.folder, "model", "llama", cases.ARCHITECTURES["llama"])
        cls.other = golden_folder.make(cls.folder, "other", "llama_mqa", cases.ARCHITECTURES["llama_mqa"])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def config(self, name, **changes):
        settings = {"models": [str(self.model)], "runtime": {"dtype": "float64"}, "rope": {"yarn": YARN},
                    "output": str(self.folder / name), **changes}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(settings))
        return path

    def records(self, name):
        return [json.loads(line) for line in (self.folder / name / "evals.jsonl").read_text().splitlines()]

    def score(self, model, documents, *keys):
        source, output = self.folder / "documents.jsonl", self.folder / "scores.jsonl"
        source.write_text("".join(json.dumps({"tokens": d}) + "\n" for d in documents))
        bb.run(1, "score", f"model={model}", f"input={source}", f"output={output}", "runtime.dtype=float64", *keys)
        return [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def generate(self, prompts, ranks=1, keys=(), **settings):
        source, output = self.folder / "prompts.jsonl", self.folder / "continued.jsonl"
        source.write_text("".join(json.dumps({"tokens": p, "id": f"p{i}"}) + "\n" for i, p in enumerate(prompts)))
        bb.run(ranks, "generate", f"model={self.model}", f"input={source}", f"output={output}", "runtime.dtype=float64",
               *[f"rope.{key}={json.dumps(value)}" for key, value in YARN.items()], *[f"{k}={v}" for k, v in settings.items()], *keys)
        records = [json.loads(line) for line in output.read_text().splitlines()]
        self.assertEqual([r["id"] for r in records], [f"p{i}" for i in range(len(prompts))])
        return [r["tokens"] for r in records]

    def test_greedy_is_the_argmax_of_score(self):
        """Each token of a continuation has the highest log-probability given the tokens before it."""
        prompts = [[5, 9, 31], [7], list(range(3, 40))]
        answers = self.generate(prompts, max_new_tokens=6)
        places = [(p, a, i, t) for p, a in zip(prompts, answers) for i in range(6) for t in range(VOCABULARY)]
        rope = [f"rope.{key}={json.dumps(value)}" for key, value in YARN.items()]
        scores = [row[-1] for row in self.score(self.model, [p + a[:i] + [t] for p, a, i, t in places], *rope)]
        for at in range(0, len(scores), VOCABULARY):
            _, answer, i, _ = places[at]
            self.assertEqual(max(range(VOCABULARY), key=lambda t: scores[at + t]), answer[i])

    def test_generate_on_every_layout(self):
        prompts = [[5, 9, 31], [7], list(range(3, 40)), [1, 2], [60, 59, 58]]
        for settings in ({}, {"temperature": 1.3, "seed": 7}, {"temperature": 0.9, "top_k": 5, "top_p": 0.8}):
            expected = self.generate(prompts, max_new_tokens=12, **settings)
            self.assertTrue(all(len(answer) == 12 for answer in expected))
            for layout, (ranks, keys) in LAYOUTS.items():
                self.assertEqual(self.generate(prompts, ranks, keys, max_new_tokens=12, **settings), expected, layout)
        greedy = self.generate(prompts, max_new_tokens=12)
        self.assertNotEqual(self.generate(prompts, max_new_tokens=12, temperature=1.3, seed=8), greedy)
        self.assertEqual(self.generate(prompts, max_new_tokens=12, temperature=1.3, top_k=1), greedy)
        stop = greedy[0][4]
        first = greedy[0].index(stop) + 1
        self.assertEqual(self.generate(prompts, max_new_tokens=12, stop=f"[{stop}]")[0], greedy[0][:first])

    def test_sampling_follows_the_probabilities(self):
        """Chi-squared test of 2000 draws of one next token against the probabilities of score."""
        draws = [a[0] for a in self.generate([[5, 9, 31]] * 2000, max_new_tokens=1, temperature=1)]
        rope = [f"rope.{key}={json.dumps(value)}" for key, value in YARN.items()]
        logs = [row[-1] for row in self.score(self.model, [[5, 9, 31, t] for t in range(VOCABULARY)], *rope)]
        chi, rest = 0.0, 0.0
        for token, log in enumerate(logs):
            expected = 2000 * math.exp(log)
            if expected < 5:
                rest += expected
                continue
            chi += (draws.count(token) - expected) ** 2 / expected
        self.assertLess(chi, 110, "99.99 % of chi-squared with 60 degrees of freedom is about 107")

    def test_retrieval_scores_are_those_of_plain_python(self):
        length, trials, depths, seed = 300, 3, 4, 11
        tasks = [{"task": name, "depths": depths, "trials": trials, "seed": seed, "samples": True} if name in ("passkey", "needle") else
                 {"task": "ruler", "name": name, "subtask": name, "trials": trials * depths, "seed": seed, "samples": True}
                 for name in TASKS]
        expected = {}
        for name in TASKS:
            prompts = Prompts(name, VOCABULARY, length, seed)
            self.assertGreater(prompts.size, 0, name)
            samples = [prompts.sample(i, i // trials / (depths - 1)) for i in range(trials * depths)]
            answers = self.generate([p for p, _ in samples], max_new_tokens=prompts.new_tokens)
            scores = [prompts.score(references, answer) for (_, references), answer in zip(samples, answers)]
            expected[name] = ([p for p, _ in samples], answers, scores)
            # A scorer that never says yes would agree with wrong answers: the perfect answer must score 1.
            perfect = sum(samples[0][1], [])
            self.assertEqual(prompts.score(samples[0][1], perfect), 1.0)
        for layout, (ranks, keys) in LAYOUTS.items():
            bb.run(ranks, "sweep", self.config(f"retrieval-{layout}", lengths=[length], tasks=tasks), *keys)
            for record in self.records(f"retrieval-{layout}"):
                prompts, answers, scores = expected[record["task"]]
                metrics, where = record["metrics"], f"{layout} {record['task']}"
                self.assertEqual([s["prompt"] for s in metrics["samples"]], prompts, where)
                self.assertEqual([s["answer"] for s in metrics["samples"]], answers, where)
                self.assertAlmostEqual(metrics["accuracy"], sum(scores) / len(scores), places=12, msg=where)
                if "by_depth" in metrics:
                    self.assertEqual([d["depth"] for d in metrics["by_depth"]], [i / (depths - 1) for i in range(depths)])
                    for i, depth in enumerate(metrics["by_depth"]):
                        self.assertAlmostEqual(depth["accuracy"], sum(scores[i * trials:(i + 1) * trials]) / trials, places=12)

    def test_long_perplexity(self):
        """Key tokens from the evaluator's runs on whole and short context, then the model's loss on those tokens."""
        documents = [d for d in cases.documents() if len(d) > 1] + [[(7 * i * i + 3 * i) % VOCABULARY for i in range(90)]]
        data = self.folder / "long.jsonl"
        data.write_text("".join(json.dumps({"tokens": d}) + "\n" for d in documents))
        length, shortest, stride, alpha, beta = 70, 12, 5, 0.1, -4.0
        cut = [d[:length] for d in documents]
        whole, own = self.score(self.other, cut), self.score(self.model, cut)
        keys = []
        for d, document in enumerate(cut):
            for begin in range(0, max(0, len(document) - shortest), stride):
                window = document[begin:begin + shortest + stride]
                (short,) = self.score(self.other, [window])
                for i in range(begin + shortest, begin + len(window)):
                    if whole[d][i] - short[i - begin] > alpha and whole[d][i] > beta:
                        keys.append((d, i))
        self.assertGreater(len(keys), 5)
        loss = -sum(own[d][i] for d, i in keys) / len(keys)
        for layout, (ranks, more) in LAYOUTS.items():
            bb.run(ranks, "sweep", self.config(f"long-{layout}", rope={"own": {}}, lengths=[40, length], tasks=[
                {"task": "longppl", "data": [{"path": str(data)}], "evaluator": str(self.other), "short_length": shortest,
                 "stride": stride, "alpha": alpha, "beta": beta}]), *more)
            metrics = self.records(f"long-{layout}")[1]["metrics"]
            self.assertEqual(metrics["key_tokens"], len(keys))
            self.assertAlmostEqual(metrics["loss"], loss, delta=1e-9)
            self.assertAlmostEqual(metrics["longppl"], math.exp(loss), delta=1e-6)
            self.assertEqual(metrics["tokens"], sum(len(d) - 1 for d in cut))

    def test_posgen_left_to_itself(self):
        run, count, length, trained = bb.tiny_run(self.folder / "run", count=200), 12, 24, 16
        bb.run(1, "train", run, "train.max_steps=6")
        model = self.folder / "run/run"
        bb.run(1, "posgen", self.folder / "test.jsonl", "task=semi_recursive", "split=test", f"length={length}", f"count={count}", "seed=1")
        sequences = [json.loads(line)["tokens"] for line in (self.folder / "test.jsonl").read_text().splitlines()]
        source, output = self.folder / "free.jsonl", self.folder / "freed.jsonl"
        source.write_text("".join(json.dumps({"tokens": s[:5]}) + "\n" for s in sequences))
        bb.run(1, "generate", f"model={model}", f"input={source}", f"output={output}", "runtime.dtype=float64", f"max_new_tokens={length - 4}")
        answers = [json.loads(line)["tokens"] for line in output.read_text().splitlines()]
        right = {"id": [], "ood": []}
        for sequence, answer in zip(sequences, answers):
            for l in range(4, length):
                right["id" if l < trained else "ood"].append(answer[l - 4] == sequence[l + 1])
        for layout, (ranks, keys) in LAYOUTS.items():
            bb.run(ranks, "sweep", self.config(f"free-{layout}", models=[str(model)], checkpoints="newest", rope={"own": {}}, lengths=[length], tasks=[
                {"task": "posgen", "subtask": "semi_recursive", "train_length": trained, "count": count, "seed": 1, "free_running": True}]), *keys)
            (record,) = self.records(f"free-{layout}")
            for kind in ("id", "ood"):
                self.assertAlmostEqual(record["metrics"][f"{kind}_accuracy_free"], sum(right[kind]) / len(right[kind]), places=12)

    def test_positions_past_the_training_length(self):
        document = [(7 * i * i + 3 * i) % VOCABULARY for i in range(150)]
        data = self.folder / "past.jsonl"
        data.write_text(json.dumps({"tokens": document}) + "\n")
        bb.run(2, "sweep", self.config("past", rope={"own": {}}, lengths=[150], tasks=[
            {"task": "perplexity", "data": [{"path": str(data)}]}]), "parallel.context=2")
        (logs,) = self.score(self.model, [document])
        metrics = self.records("past")[0]["metrics"]
        self.assertEqual([(b["from"], b["to"], b["tokens"]) for b in metrics["loss_past_training"]], [(0, 64, 64), (64, 86, 22)])
        for bin_ in metrics["loss_past_training"]:
            losses = [-logs[64 + i] for i in range(bin_["from"], bin_["to"])]
            self.assertAlmostEqual(bin_["loss"], sum(losses) / len(losses), delta=1e-9)
        for bin_ in metrics["loss_by_position_linear"]:
            losses = [-logs[i] for i in range(max(1, bin_["from"]), bin_["to"])]
            self.assertAlmostEqual(bin_["loss"], sum(losses) / len(losses), delta=1e-9)
        page = (self.folder / "past/report.html").read_text()
        for part in ("by position in equal parts, 150 tokens", "trained length"):
            self.assertTrue(part in page, part)

    def test_logits_that_are_not_finite_are_no_token(self):
        """Finite weights whose products overflow: every rank says so; score has null, and a word."""
        weights = {}
        for name, (dtype, shape, raw) in tiny_model.weights().items():
            huge = {"lm_head.weight": 3e38, "model.norm.weight": 1e5}.get(name)
            weights[name] = (dtype, shape, struct.pack("<f", huge) * (len(raw) // 4) if huge else raw)
        model = tiny_model.folder(self.folder / "huge", weights)
        documents = tiny_model.documents(self.folder / "huge.jsonl")
        for ranks in (1, 2):
            for temperature in (0, 1):
                done = bb.run(ranks, "generate", f"model={model}", f"input={documents}", f"temperature={temperature}",
                              "runtime.dtype=float32", expect=76)
                self.assertIn("token 0 of prompt 0 (from 0) are not finite", done.stderr)
                self.assertEqual(done.stdout, "")
        done = bb.run(1, "score", f"model={model}", f"input={documents}", f"output={self.folder}/huge.out", "runtime.dtype=float32")
        self.assertIn("2 of 2 documents have log-probabilities that are not finite", done.stderr)
        done = bb.run(1, "score", f"model={self.model}", f"input={documents}", f"output={self.folder}/huge.out")
        self.assertNotIn("finite", done.stderr)

    def test_sampling_keys_without_sampling_are_named(self):
        common = ["generate", f"model={self.model}", "tokens=[1]", "max_new_tokens=1"]
        self.assertIn("top_k has no effect at temperature 0", bb.run(1, *common, "top_k=3").stderr)
        self.assertNotIn("no effect", bb.run(1, *common, "top_k=3", "temperature=1").stderr)

    def test_bad_requests(self):
        def refused(says, *arguments, code=64):
            self.assertIn(says, bb.run(1, *arguments, expect=code).stderr)
        refused("exactly one", "generate", f"model={self.model}")
        refused("exactly one", "generate", f"model={self.model}", "prompt=x", "tokens=[1]")
        refused("no tokenizer", "generate", f"model={self.model}", "prompt=x")
        refused("61", "generate", f"model={self.model}", "tokens=[61]")
        refused("it takes integers", "generate", f"model={self.model}", "tokens=[1]", "stop=[a]")
        refused("evaluator", "sweep", self.config("refused", lengths=[8], tasks=[{"task": "longppl", "data": []}]))
        refused("subtask", "sweep", self.config("refused", lengths=[8], tasks=[{"task": "ruler", "subtask": "vz"}]))
        refused("in part", "sweep", self.config("refused", lengths=[8], tasks=[{"task": "needle", "needle": "It is blue."}]))
        refused("1 of 1 points failed", "sweep", self.config("short", lengths=[8], tasks=[{"task": "passkey"}]), code=65)
        self.assertIn("has no room", self.records("short")[0]["error"])


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
