"""A run continues with what it was trained on: its position in the data on any layout, the same files on every rank, the
same content after a pause, its own tokenizer. Black box."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

SEQUENCES = 30


def can_unshare():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


class Identity(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        os.environ["CARILLON_CACHE"] = str(self.folder / "cache")
        self.config = bb.tiny_run(self.folder)
        # Sequence i has i + 1 targets, so the token count of a step reveals which sequences it took.
        self.data = self.folder / "numbered.jsonl"
        self.data.write_text("".join(json.dumps({"tokens": [1] * (i + 2)}) + "\n" for i in range(SEQUENCES)))
        self.output = self.folder / "out"

    def train(self, ranks, *keys, expect=0, data=None):
        return bb.run(ranks, "train", self.config, f"output={self.output}", f"data.train=[{{path: {data or self.data}}}]",
                      "train.lr_scheduler=constant", *keys, expect=expect)

    def tokens(self):
        return [record["tokens"] for record in bb.metrics(self.output)]

    def test_other_layouts_and_batches_go_on_behind_the_last_sequence(self):
        changes = [(1, 1, 1), (2, 1, 1), (1, 3, 1), (2, 2, 2), (1, 1, 4)]  # ranks, micro-batch, accumulation
        for shuffle in ("false", "true"):
            alone = self.output = self.folder / f"alone-{shuffle}"
            self.train(1, f"data.shuffle={shuffle}", "train.micro_batch_size=1", "train.max_steps=54")
            one = self.tokens()
            if shuffle == "false":
                self.assertEqual(one, [i % SEQUENCES + 1 for i in range(54)])
            self.output = self.folder / f"changing-{shuffle}"
            expected, steps, at = [], 0, 0
            for ranks, batch, accumulation in changes:
                steps += 3
                self.train(ranks, f"data.shuffle={shuffle}", f"train.micro_batch_size={batch}",
                           f"train.gradient_accumulation_steps={accumulation}", f"train.max_steps={steps}",
                           f"parallel.data={ranks}")
                for _ in range(3):
                    block = ranks * batch * accumulation
                    expected.append(sum(one[at:at + block]))
                    at += block
            self.assertEqual(at, 54)
            self.assertEqual(self.tokens(), expected)
            del alone

    def test_an_epoch_ends_where_it_should(self):
        self.config.write_text(self.config.read_text().replace("max_steps: 12", "epochs: 2"))
        keys = ["data.shuffle=false", "checkpoint.every_steps=7", "checkpoint.keep=20"]
        self.train(1, *keys, "train.micro_batch_size=1")
        self.assertEqual(sum(self.tokens()), 2 * SEQUENCES * (SEQUENCES + 1) // 2)
        for folder in (self.output / "checkpoints").glob("step-*"):
            if not folder.name.endswith("42"):
                shutil.rmtree(folder)
        self.assertEqual([f.name for f in (self.output / "checkpoints").glob("step-*")], ["step-00000042"])
        self.train(2, *keys, "train.micro_batch_size=3", "parallel.data=2")
        self.assertEqual(len(self.tokens()), 42 + 3)  # 18 sequences are left
        self.assertEqual(sum(self.tokens()), 2 * SEQUENCES * (SEQUENCES + 1) // 2)

    def test_changed_data_is_one_warning(self):
        keys = ["train.micro_batch_size=1"]
        self.train(1, *keys, "train.max_steps=2")
        done = self.train(1, *keys, "train.max_steps=3")
        self.assertNotIn("changed", done.stderr)
        moved = self.folder / "moved.jsonl"
        shutil.copy(self.data, moved)
        done = self.train(1, *keys, "train.max_steps=4", data=moved)
        self.assertNotIn("other content", done.stderr)
        text = self.data.read_text()
        time = self.data.stat()
        self.data.write_text(text.replace("[1, 1]", "[1, 2]", 1))
        os.utime(self.data, ns=(time.st_atime_ns, time.st_mtime_ns))
        self.assertEqual(self.data.stat().st_size, time.st_size)
        done = self.train(1, *keys, "train.max_steps=5")
        lines = [line for line in done.stderr.splitlines() if "data changed" in line]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn(str(self.data), lines[0])

    def test_a_base_whose_configuration_was_edited(self):
        base = self.folder / "base"
        self.train(1, "train.max_steps=1")
        bb.run(1, "export", self.output, base)
        config = self.folder / "tuned.yaml"
        lines = self.config.read_text().splitlines()
        model = next(i for i, line in enumerate(lines) if line.startswith("model:"))
        end = next((i for i in range(model + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
        rest = [line for line in lines[:model] + lines[end:] if not line.startswith("rope:")]
        config.write_text("\n".join([f"model: {{base: {base}}}", *rest]) + "\n")
        tuned = f"output={self.folder}/tuned"
        bb.run(1, "train", config, tuned, "train.max_steps=2")
        self.assertNotIn("as it was", bb.run(1, "train", config, tuned, "train.max_steps=3").stderr)
        settings = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 0.25}))
        done = bb.run(1, "train", config, tuned, "train.max_steps=4", expect=64)
        self.assertIn("rms_norm_eps: ", done.stderr)
        (base / "config.json").write_text(json.dumps({**settings, "eos_token_id": 5}))
        done = bb.run(1, "train", config, tuned, "train.max_steps=4")
        self.assertEqual(sum("as it was" in line for line in done.stderr.splitlines()), 1, done.stderr)

    def apart(self, at, instead, *words, expect=65):
        """Two ranks; at the same path the second has a different file."""
        script = self.folder / "apart.sh"
        script.write_text('#!/bin/bash\n[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec "$@"\n'
                          f'exec unshare -m bash -c \'mount --bind {instead} {at} && exec "$@"\' bash "$@"\n')
        script.chmod(0o755)
        done = subprocess.run([*bb.MPIRUN, "-n", "2", script, bb.CARILLON, *map(str, words)], capture_output=True,
                              text=True, timeout=120)
        self.assertEqual(done.returncode, expect, done.stderr)
        return done.stderr

    @unittest.skipUnless(can_unshare(), "needs root and mount namespaces")
    def test_ranks_that_read_other_files_are_refused(self):
        self.train(1, "train.max_steps=1")
        other = self.folder / "other.jsonl"
        other.write_text(self.data.read_text().replace("[1, 1]", "[2, 2]", 1))
        train = ["train", self.config, "parallel.context=2", f"data.train=[{{path: {self.data}}}]"]
        error = self.apart(self.data, other, *train)
        self.assertIn(str(self.data), error)
        self.assertIn("rank 1 (", error)
        self.assertFalse((self.folder / "run").exists())
        self.apart(self.data, self.data, *train, "train.max_steps=1", expect=0)  # the same file through another mount
        config = self.folder / "other.yaml"
        config.write_text(self.config.read_text().replace("3e-3", "4e-3"))
        self.assertIn("config.yaml", self.apart(self.config, config, *train))
        model = self.output
        bb.run(1, "export", model, self.folder / "A")
        shutil.copytree(self.folder / "A", self.folder / "B")
        weights = (self.folder / "B/model.safetensors").read_bytes()
        (self.folder / "B/model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
        score = ["score", f"model={self.folder}/A", f"input={self.data}", f"output={self.folder}/o"]
        error = self.apart(self.folder / "A", self.folder / "B", *score, "parallel.tensor=2")
        self.assertIn("model.safetensors", error)
        error = self.apart(self.data, other, *score, "parallel.tensor=2")
        self.assertIn(str(self.data), error)
        error = self.apart(self.folder / "A", self.folder / "B", "generate", f"model={self.folder}/A", "tokens=[1,2]",
                           "parallel.tensor=2", "max_new_tokens=2")
        self.assertIn("model.safetensors", error)

    @unittest.skipUnless(can_unshare(), "needs root and mount namespaces")
    def test_an_output_that_one_rank_does_not_share_is_refused_before_the_first_step(self):
        for name in ("shared", "own"):
            (self.folder / name).mkdir()
        shared = self.folder / "shared"
        train = ["train", self.config, f"output={shared}/run", "train.max_steps=4", "checkpoint.every_steps=2"]
        error = self.apart(shared, self.folder / "own", *train, expect=73)
        self.assertIn("rank 1 on", error)
        self.assertIn(f"{shared}/run", error)
        self.assertEqual(list(shared.iterdir()), [], "a refused start leaves nothing")
        # A folder of the same name that an earlier run left on the other disk is another one.
        bb.run(1, "train", self.config, f"output={self.folder}/own/run", "train.max_steps=1")
        self.assertIn("rank 1 on", self.apart(shared, self.folder / "own", *train, expect=73))
        self.apart(shared, shared, *train, expect=0)

    def test_a_token_cache_without_room_goes_to_the_runs_folder(self):
        os.environ["CARILLON_CACHE"] = "/proc"  # root may write there, as far as access() knows, and cannot
        done = self.train(1, "train.max_steps=1")
        if os.geteuid() == 0:
            self.assertIn(f"the token cache goes to {self.output}/.cache", done.stderr)
            self.assertEqual(len(list((self.output / ".cache").glob("*.tokens"))), 1)

    def test_a_run_keeps_its_tokenizer(self):
        golden = sorted((pathlib.Path(os.environ["SOURCE"]) / "tests/golden/tokenizers").glob("*/tokenizer.json"))
        self.assertTrue(golden)
        tokenizer = self.folder / "tokenizer"
        tokenizer.mkdir()
        shutil.copy(golden[0], tokenizer / "tokenizer.json")
        self.train(1, "train.max_steps=1", f"data.tokenizer={tokenizer}")
        kept = self.output / "tokenizer/tokenizer.json"
        self.assertEqual(kept.read_bytes(), golden[0].read_bytes())

    def test_a_token_file_of_another_tokenizer_is_named(self):
        golden = sorted((pathlib.Path(os.environ["SOURCE"]) / "tests/golden/tokenizers").glob("*/tokenizer.json"))
        (self.folder / "text.txt").write_text("a b c")
        file = self.folder / "text.h5"
        bb.run(1, "tokenize", self.folder / "text.txt", f"tokenizer={golden[0]}", f"output={file}")
        found = json.loads(bb.run(1, "inspect", file, "--json").stdout)
        self.assertTrue(found["verified"])
        keys = ["train.max_steps=1", "model.vocab_size=300000"]
        done = self.train(1, *keys, f"data.tokenizer={golden[0]}", data=file)
        self.assertNotIn("another tokenizer", done.stderr)
        changed = self.folder / "tokenizer.json"
        changed.write_text(golden[0].read_text() + " ")
        self.output = self.folder / "out2"
        done = self.train(1, *keys, f"data.tokenizer={changed}", data=file)
        self.assertIn("another tokenizer", done.stderr)


if __name__ == "__main__":
    unittest.main()
