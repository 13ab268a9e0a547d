"""Wrong words and bad files: the user gets one line and the right exit code, on every rank, within seconds."""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        bb.run(1, "train", cls.config, "train.max_steps=4")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def refused(self, code, says, *arguments, ranks=1, environment=None, seconds=10):
        begin = time.monotonic()
        done = bb.run(ranks, *arguments, expect=code, environment=environment)
        self.assertLess(time.monotonic() - begin, seconds, arguments)
        lines = [line for line in done.stderr.splitlines() if line.startswith("carillon: error: ")]
        self.assertEqual(len(lines), 1, f"one error line, not {done.stderr}")
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, lines[0])
        return done

    def test_help_of_every_command(self):
        general = bb.run(1, "--help").stdout
        for command in ("train", "score", "import", "inspect", "rope", "posgen", "tokenize", "info"):
            self.assertIn(command, general)
            text = bb.run(1, command, "--help").stdout
            self.assertIn("usage: carillon " + command, text)
            self.assertIn("example:", text)
        self.assertIn("train.learning_rate", bb.run(1, "train", "--help").stdout)
        self.assertRegex(bb.run(1, "--version").stdout, r"^carillon \d")

    def test_wrong_words(self):
        self.refused(64, ["trian", "train"], "trian")
        self.refused(64, "one configuration file", "plan")
        self.refused(64, ["--jsn", "--json"], "info", "--jsn")
        self.refused(64, ["max_stps", "train.max_steps"], "train", self.config, "train.max_stps=3")
        self.refused(64, "train.max_steps", "train", self.config, "train.max_steps=many")
        self.refused(64, ["factr", "rope.sliding_attention"], "train", self.config, "rope.sliding_attention.factr=2")
        self.refused(66, "nowhere.yaml", "train", "nowhere.yaml")
        # Settings as other programs, or hurried hands, write them.
        self.refused(64, "write train.max_steps=3", "train", self.config, "--train.max_steps=3")
        self.refused(64, "write output=x", "train", self.config, "--output=x")
        self.refused(64, "write train.max_steps=VALUE", "train", self.config, "--train.max_steps", "3")
        for words in (("train.max_steps", "=", "3"), ("train.max_steps=", "3"), ("train.max_steps", "=3")):
            self.refused(64, "write key=value", "train", self.config, *words)
        for text in ("a: b", "[a] b", "{a} b", "[a"):
            self.refused(64, ["put the text into quotes", "output="], "train", self.config, f"output={text}")
        self.refused(64, "carillon slurm", "train", self.config, "slurm.time=1h")
        self.refused(64, "model", "score", "input=a", "output=b")
        bad = self.folder / "bad.yaml"
        bad.write_text("train:\n  max_steps: 3\n  max_steps: 4\n")
        self.refused(64, "bad.yaml:3:3", "train", bad)
        bad.write_text("train:\n  context_parallel_size: 3\n")
        self.refused(64, ["bad.yaml:2:3", "parallel.context"], "train", bad)
        bad.write_text("[" * 5000)
        self.refused(64, "bad.yaml", "train", bad)

    def test_layouts_that_do_not_fit_name_the_numbers(self):
        self.refused(64, "parallel.tensor 2", "train", self.config, "parallel.tensor=2", f"output={self.folder}/x")
        self.refused(64, "6 ranks", "train", self.config, "parallel.data=3", "parallel.context=2", f"output={self.folder}/x",
                     ranks=2)
        self.refused(64, ["heads", "3"], "train", self.config, "parallel.tensor=3", f"output={self.folder}/x", ranks=3)
        self.refused(64, "at least", "train", self.config, "parallel.context=2", "data.sequence_length=3",
                     f"output={self.folder}/x", ranks=2)
        self.assertFalse((self.folder / "x").exists(), "a refused run leaves nothing")

    def test_bad_data_names_file_and_line(self):
        bad = self.folder / "bad.jsonl"
        for text, says in (('{"tokens":[1,2]}\n{"tokens":[99]}\n', ["bad.jsonl:2", "99"]),
                           ('{"tokens":[1,2]}\n\n{"tokens":[1],"note":-1e999}\n', ["bad.jsonl:3", "double"]),
                           ('{"tokens":[]}\n', "empty"), ('{"tokens":', "bad.jsonl:1"), ("", "no document")):
            bad.write_text(text)
            for ranks in (1, 2):
                self.refused(65, says, "train", self.config, f"data.train=[{{path: {bad}}}]", f"output={self.folder}/x",
                             ranks=ranks)
        self.refused(66, "none.jsonl", "train", self.config, "data.train=[{path: none.jsonl}]", f"output={self.folder}/x")
        bad.write_text('{"tokens":[1]}\n{"tokens":[]}\n')
        self.refused(65, "bad.jsonl:2", "score", f"model={self.folder}/run", f"input={bad}", f"output={self.folder}/s")
        bad.write_text('{"tokens":[1]}\n{"tokens":[1],"id":1e999}\n')
        self.refused(65, ["bad.jsonl:2", "double"], "score", f"model={self.folder}/run", f"input={bad}",
                     f"output={self.folder}/s")
        self.assertFalse((self.folder / "s").exists())

    def test_bad_models(self):
        model = self.folder / "hf"
        model.mkdir(exist_ok=True)
        self.refused(66, "nomodel", "score", "model=nomodel", "input=a", "output=b")
        self.refused(65, "not a model", "score", f"model={model}", "input=a", "output=b")
        (model / "config.json").write_text(json.dumps({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}))
        (model / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
        self.refused(65, "ixtral", "import", model, self.folder / "m.h5")
        self.assertFalse((self.folder / "m.h5").exists())
        (model / "model.safetensors").write_bytes(b"\xff\xff\0")
        self.refused(65, "model.safetensors", "score", f"model={model}", "input=a", "output=b", ranks=2)

    def test_output_that_cannot_be_made(self):
        self.refused(73, "/proc/nothing", "posgen", "/proc/nothing/x.jsonl", "task=cot", "count=1")
        blocked = self.folder / "blocked"
        blocked.write_text("a file, not a folder")
        self.refused(73, "blocked", "train", self.config, f"output={blocked}")
        self.refused(73, "blocked", "train", self.config, f"output={blocked}", "parallel.context=2", ranks=2)
        existing = self.folder / "scores.jsonl"
        existing.write_text("precious\n")
        self.refused(66, "none", "score", f"model={self.folder}/run", "input=none", f"output={existing}")
        self.assertEqual(existing.read_text(), "precious\n", "what was there before stays")

    def test_resume_rules(self):
        self.refused(64, "never", "train", self.config, "checkpoint.resume=never")
        bb.run(1, "train", self.config, f"output={self.folder}/two", "checkpoint.every_steps=2", "train.max_steps=4")
        self.refused(64, "later", "train", self.config, f"output={self.folder}/two",
                     f"checkpoint.resume={self.folder}/two/checkpoints/step-00000002")
        self.refused(64, "later", "train", self.config, f"output={self.folder}/two",
                     f"checkpoint.resume={self.folder}/two/checkpoints/step-00000002/")
        self.refused(66, "nothing", "train", self.config, f"output={self.folder}/two", "checkpoint.resume=nothing")
        self.refused(64, "model", "train", self.config, "model.hidden_size=16", "train.max_steps=8")
        done = bb.run(1, "train", self.config, "train.learning_rate=1e-3", "train.max_steps=5")
        self.assertIn("train.learning_rate", done.stderr)

    def test_a_run_that_begins_at_another_runs_checkpoint(self):
        source, other = self.folder / "source", self.folder / "other"
        bb.run(1, "train", self.config, f"output={source}", "checkpoint.every_steps=2", "train.max_steps=4")
        begin = [self.config, f"output={other}", f"checkpoint.resume={source}/checkpoints/step-00000002", "train.seed=5",
                 "checkpoint.every_steps=2"]
        bb.run(1, "train", *begin, "train.max_steps=6")
        # The same command again, as a requeued job gives it, goes on from the run's own checkpoints.
        done = bb.run(1, "train", *begin, "train.max_steps=8")
        self.assertIn(f"resuming from {other}/checkpoints/step-00000006", done.stderr)
        self.assertEqual([record["step"] for record in bb.metrics(other)], [3, 4, 5, 6, 7, 8])
        # A folder with later checkpoints of another origin keeps them.
        before = sorted(path.name for path in (source / "checkpoints").iterdir())
        bb.run(1, "train", self.config, f"output={self.folder}/short", "train.max_steps=3")
        self.refused(64, "later checkpoints", "train", self.config, f"output={source}",
                     f"checkpoint.resume={self.folder}/short/checkpoints/step-00000003")
        self.assertEqual(sorted(path.name for path in (source / "checkpoints").iterdir()), before)
        # A run's folder stands for its newest checkpoint.
        done = bb.run(1, "train", self.config, f"output={self.folder}/newest", f"checkpoint.resume={source}", "train.max_steps=5")
        self.assertIn(f"resuming from {source}/checkpoints/step-00000004", done.stderr)

    def test_a_run_that_is_over_says_so(self):
        bb.run(1, "train", self.config, f"output={self.folder}/over", "train.max_steps=4")
        for steps in (4, 3):
            done = bb.run(1, "train", self.config, f"output={self.folder}/over", f"train.max_steps={steps}")
            self.assertIn(f"nothing was left to do: the run has taken 4 of {steps} steps", done.stderr)

    def test_a_default_that_is_written_out_is_no_change(self):
        defaults = ["model.rms_norm_eps=1e-6", "model.attention_bias=false", "model.architecture=llama", "model.mlp_bias=false",
                    "rope.base=10000", "rope.beta_fast=32", "rope.cope=0"]
        output = f"output={self.folder}/written"
        bb.run(1, "train", self.config, output, "train.max_steps=4")
        self.assertNotIn("resuming with another", bb.run(1, "train", self.config, output, "train.max_steps=5", *defaults).stderr)
        # And left out again.
        self.assertNotIn("resuming with another", bb.run(1, "train", self.config, output, "train.max_steps=6").stderr)
        self.refused(64, "model.rms_norm_eps", "train", self.config, output, "train.max_steps=7", "model.rms_norm_eps=1e-5")
        self.refused(64, "model.attention_bias", "train", self.config, output, "train.max_steps=7", "model.attention_bias=true")
        done = bb.run(1, "train", self.config, output, "train.max_steps=7", "rope.factor=8")
        self.assertIn("resuming with another rope.factor", done.stderr)

    def test_settings_without_effect_are_named(self):
        run = bb.run(1, "train", self.config, f"output={self.folder}/effect", "train.max_steps=1", "model.logits_scaling=4",
                     "rope.long_factor=[1,1,1,1]")
        self.assertIn("warning: model.logits_scaling has no effect with architecture llama", run.stderr)
        self.assertIn("warning: rope.long_factor has no effect with rope.type yarn", run.stderr)
        done = bb.run(1, "rope", "rope.factor=8")
        self.assertIn("rope.factor has no effect with rope.type default", done.stderr)
        self.assertIn("yarn", done.stderr)
        self.assertEqual(bb.run(1, "rope", "rope.factor=8", "rope.type=yarn", "rope.beta_fast=16").stderr, "")

    def test_a_full_disk_keeps_what_was_there(self):
        if os.geteuid() != 0:
            self.skipTest("mounting a small disk needs root")
        small = self.folder / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2600k", "tmpfs", str(small)], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no mount here")
        try:
            for ranks, extra in ((1, []), (2, ["parallel.context=2"])):
                output = small / f"run{ranks}"
                done = bb.run(ranks, "train", self.config, f"output={output}", "checkpoint.every_steps=1", "checkpoint.keep=100",
                              "train.max_steps=30", *extra, expect=74)
                self.assertIn("carillon: error:", done.stderr)
                self.assertIn("no space", done.stderr)
                self.assertEqual(bb.metrics(output)[-1]["step"], 30, "periodic saves are skipped, training goes on")
                newest = sorted((output / "checkpoints").glob("step-*"))[-1]
                bb.run(1, "inspect", newest)
                shutil.rmtree(output)
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_a_disk_without_a_byte_ends_every_start(self):
        """Also that of a sweep, whose claims then cannot be written; nothing is left behind."""
        if os.geteuid() != 0:
            self.skipTest("mounting a small disk needs root")
        small = self.folder / "none"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no mount here")
        try:
            with open(small / "fill", "wb", buffering=0) as fill:
                try:
                    while fill.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            sweep = self.folder / "full.yaml"
            sweep.write_text(f"models: [{self.folder}/run]\ncheckpoints: newest\nlengths: [16]\n"
                             f"tasks: [{{task: posgen, count: 2, train_length: 8}}]\noutput: {small}/sweep\n")
            self.refused(74, "claim", "sweep", sweep)
            self.refused(74, ".running", "train", self.config, f"output={small}/run")
            self.assertFalse((small / "run").exists())
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_nonfinite_losses_end_the_run(self):
        self.refused(76, "not finite", "train", self.config, f"output={self.folder}/nan", "train.learning_rate=1e300",
                     "runtime.dtype=float32", "train.max_steps=50", "train.warmup_steps=0")
        records = bb.metrics(self.folder / "nan")
        self.assertTrue(all(r["loss"] is None or r["grad_norm"] is None for r in records[-5:]))

    def test_steps_without_targets_change_nothing_but_the_step(self):
        data = self.folder / "masked.jsonl"
        data.write_text("".join('{"tokens":[1,2,3,4],"loss_mask":[0,0,0,0]}\n' for _ in range(8)))
        bb.run(1, "train", self.config, f"data.train=[{{path: {data}}}]", f"output={self.folder}/masked", "train.max_steps=2")
        for record in bb.metrics(self.folder / "masked"):
            self.assertIsNone(record["loss"])
            self.assertEqual(record["tokens"], 0)

    def test_a_start_takes_well_under_half_a_second(self):
        begin = time.monotonic()
        bb.run(1, "train", self.config, f"output={self.folder}/quick", "train.max_steps=1")
        self.assertLess(time.monotonic() - begin, 2, "and this bound is for a loaded machine")

    def test_ranks_of_different_configurations_do_not_train_together(self):
        words = [*bb.MPIRUN, "-n", "1", bb.CARILLON, "train", str(self.config), f"output={self.folder}/y", "parallel.context=2",
                 ":", "-n", "1", bb.CARILLON, "train", str(self.config), f"output={self.folder}/y", "parallel.context=2",
                 "train.learning_rate=1"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 65, done.stderr)
        self.assertIn("train.learning_rate", done.stderr)

    def test_tokens_from_files_of_every_kind_train_alike(self):
        source = self.folder / "kinds.jsonl"
        source.write_text("".join(f'{{"tokens":{[(i * j) % 22 for j in range(20)]}}}\n' for i in range(1, 30)))
        printed = bb.run(1, "tokenize", source, f"output={self.folder}/kinds.h5", "vocab_size=22").stdout
        self.assertIn("29 documents, 580 tokens", printed)
        for kind in ("jsonl", "h5"):
            bb.run(1, "train", self.config, f"data.train=[{{path: {self.folder}/kinds.{kind}}}]",
                   f"output={self.folder}/run-{kind}", "train.max_steps=3", "data.packing=split")
        self.assertEqual(bb.raw_fields(self.folder / "run-jsonl"), bb.raw_fields(self.folder / "run-h5"))

    def test_rope_and_inspect_print_one_object(self):
        rope = json.loads(bb.run(1, "rope", "--json", "rope.type=yarn", "rope.resonance=true", "rope.factor=4",
                                 "rope.original_max_position_embeddings=64", "model.head_dim=16").stdout)
        self.assertEqual([p["rounded_wavelength"] for p in rope["pairs"]][:3], [6, 26, 126])
        self.assertEqual(rope["critical_dimension"], 2)
        self.assertAlmostEqual(rope["laws"]["critical_base"] / 10000 ** (math.log(256 / math.tau) / math.log(64 / math.tau)), 1, places=12)
        drawn = bb.run(1, "rope", "rope.resonance=true", "rope.original_max_position_embeddings=4096", "length=8192",
                       f"svg={self.folder / 'rope.svg'}").stdout
        self.assertIn("after 10^51.85 tokens", drawn)
        self.assertIn("from 1707 tokens away", drawn)
        self.assertTrue((self.folder / "rope.svg").read_text().startswith("<svg"))
        found = json.loads(bb.run(1, "inspect", self.folder / "run", "--json").stdout)
        self.assertEqual(found["kind"], "checkpoint")
        self.assertIn("model/model.embed_tokens.weight", found["tensors"])
        info = json.loads(bb.run(1, "info", "--json").stdout)
        self.assertIn("instruction_set", info["devices"][0])


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
