"""Absurd sizes, long arguments, broken numbers and foreign formats: refused in one line, never with 70, never hanging."""

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


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        bb.run(1, "train", cls.config, "train.max_steps=4")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def refused(self, code, *arguments, says=(), ranks=1):
        done = bb.run(ranks, *arguments, expect=None, timeout=60)
        lines = [line for line in done.stderr.splitlines() if line.startswith("carillon: error: ")]
        self.assertEqual((done.returncode, len(lines)), (code, 1), (arguments, done.stderr))
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, lines[0])

    def test_long_arguments_are_no_file_names(self):
        run = self.folder / "run"
        bb.run(1, "generate", f"model={run}", "max_new_tokens=1", f"tokens=[{','.join(['3'] * 300)}]")
        entries = ", ".join([f"{{path: {self.folder}/train.jsonl}}"] * 30)
        bb.run(1, "train", self.config, f"output={self.folder}/many", "train.max_steps=1", f"data.train=[{entries}]")
        self.refused(64, "generate", f"model={run}", f"prompt={'a' * 5000}", says="no tokenizer")
        self.refused(66, "inspect", "b" * 300, says="correct the path")
        self.refused(66, "generate", f"model={'c' * 5000}", "tokens=[1]")
        self.refused(66, "train", "d" * 300)
        self.refused(66, "report", "e" * 300, "x.html")
        self.refused(66, "score", f"model={run}", f"input={'f' * 300}", "output=o")

    def test_a_path_through_a_file_is_missing(self):
        through = self.folder / "train.jsonl" / "x"
        self.refused(66, "inspect", through)
        self.refused(66, "generate", f"model={through}", "tokens=[1]")
        self.refused(73, "train", self.config, f"output={through}")

    def test_numbers_that_would_wrap_are_refused(self):
        run, tiny = self.folder / "run", [self.config, f"output={self.folder}/wrap"]
        for token in (2**32 + 1, 2**31, -1, 2**63):
            self.refused(64, "generate", f"model={run}", f"tokens=[{token}]")
            self.refused(64, "generate", f"model={run}", "tokens=[1]", f"stop=[{token}]")
        for setting in ("parallel.data=4294967297", "parallel.context=4294967297", "parallel.tensor=9223372036854775807",
                        "runtime.threads=1000000", "train.max_steps=9223372036854775807", "data.sequence_length=1t",
                        "train.micro_batch_size=1t", "train.gradient_accumulation_steps=9223372036854775807",
                        "checkpoint.keep=9223372036854775807", "model.num_hidden_layers=1000000000",
                        "model.vocab_size=1000000000000", "model.hidden_size=1000000000000"):
            self.refused(64, "train", *tiny, setting)
        self.refused(64, "train", *tiny, "parallel.tensor=1048576", "parallel.context=1048576", "parallel.data=1048576")
        self.refused(64, "train", *tiny, "data.sequence_length=4g", "train.micro_batch_size=1m", says="GiB")
        epochs = self.folder / "epochs.yaml"
        epochs.write_text(self.config.read_text().replace("max_steps: 12", "epochs: 1e300"))
        self.refused(64, "train", epochs, f"output={self.folder}/epochs", says="train.epochs")
        self.assertFalse((self.folder / "wrap").exists())

    def test_counts_that_would_never_end_are_refused(self):
        run = f"model={self.folder}/run"
        task = "task={task: perplexity, data: [{path: %s}]}" % (self.folder / "train.jsonl")
        self.refused(64, "eval", run, task, f"length={2**63 - 1}", says="4294967296")
        self.refused(64, "train", self.config, f"output={self.folder}/n", f"eval.lengths=[{2**40}]", says="eval.lengths")
        for setting in ("bench.seconds=1e300", "bench.seconds=99999999999999999999", f"bench.longest={2**63 - 1}"):
            self.refused(64, "bench", setting, f"bench.output={self.folder}/p.json")
        self.refused(64, "verify", self.config, f"verify.steps={2**62}")

    def test_memory_that_is_not_there_is_said_before_it_is_taken(self):
        run = f"model={self.folder}/run"
        task = "task={task: perplexity, data: [{path: %s}]}" % (self.folder / "train.jsonl")
        self.refused(74, "eval", run, task, "length=4g", says=["a window of 4294967296 tokens does not fit", "lengths"])
        # More than there is, and less than the system would promise: it would end the process without a word.
        lines = [line.split() for line in pathlib.Path("/proc/meminfo").read_text().splitlines()]
        memory = sum(int(line[1]) << 10 for line in lines if line[0] in ("MemAvailable:", "SwapFree:"))
        per_token = 1000  # at least, of this model
        self.refused(74, "eval", run, task, f"length={min(memory // per_token * 2, 2**32)}", says="MiB are available")

    def test_more_files_of_data_than_may_be_open(self):
        shards = self.folder / "shards"
        shards.mkdir()
        line = (self.folder / "train.jsonl").read_text().splitlines()[0]
        for i in range(100):
            (shards / f"{i:03}.jsonl").write_text(line + "\n")
        done = subprocess.run(["bash", "-c", 'ulimit -n 64 && exec "$@"', "bash", bb.CARILLON, "train", self.config,
                               f"data.train=[{{path: {shards}}}]", "train.max_steps=1", f"output={self.folder}/from-shards"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_endless_files_are_not_read(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for path in ("/dev/zero", pipe):
            self.refused(65, "plan", self.config, f"plan.profile={path}", says="is not a regular file")
        base = self.folder / "base"
        base.mkdir()
        os.mkfifo(base / "config.json")
        plan = self.folder / "plan.yaml"
        plan.write_text(f"model: {{base: {base}}}\ndata: {{train: [{{path: x.jsonl}}], sequence_length: 16}}\n"
                        "train: {max_steps: 1}\noutput: x\n")
        self.refused(65, "plan", plan, "plan.profile=h100-sxm", says="config.json")

    def test_names_that_lead_nowhere_are_said_although_nothing_needs_them(self):
        run, data = f"model={self.folder}/run", f"input={self.folder}/train.jsonl"
        for name in ("nowhere", "n" * 5000):
            for key in ("tokenizer", "chat_template"):
                self.refused(66, "score", run, data, f"output={self.folder}/s.jsonl", f"{key}={name}", says=key.replace("_", " "))
            self.refused(66, "generate", run, "tokens=[1]", "max_new_tokens=1", f"chat_template={name}", says="chat template")
        self.assertFalse((self.folder / "s.jsonl").exists())

    def test_an_override_that_yaml_takes_for_nothing_is_refused(self):
        for value in ("%j", "# none", " %x"):
            done = bb.run(1, "train", self.config, f"data.tokenizer={value}", f"output={self.folder}/nothing", expect=64)
            self.assertIn("quotes", done.stderr)
        self.assertFalse((self.folder / "nothing").exists())

    def test_one_cycle_with_epochs_counts_its_steps(self):
        text = self.config.read_text().replace("max_steps: 12", "epochs: 1").replace("warmup_steps: 2", "warmup_steps: 16")
        config = self.folder / "cycle.yaml"
        config.write_text(text)  # 64 sequences, 4 per step: 16 steps
        self.refused(64, "train", config, f"output={self.folder}/cycle", "train.lr_scheduler=one_cycle", says="no way down")
        bb.run(1, "train", config, f"output={self.folder}/cycle", "train.lr_scheduler=one_cycle", "train.warmup_steps=4")
        rates = [r["lr"] for r in bb.metrics(self.folder / "cycle")]
        self.assertEqual(len(rates), 16)
        self.assertLess(rates[-1], 1e-3 * max(rates))

    def test_a_warm_up_that_outlasts_the_run_is_named(self):
        run = lambda name, warm_up: bb.run(1, "train", self.config, f"output={self.folder}/{name}", "train.max_steps=2",
                                           f"train.warmup_steps={warm_up}").stderr
        self.assertIn("the warm-up of 3 steps is longer than the 2 steps of the run", run("warm-up-of-3", 3))
        self.assertNotIn("longer than", run("warm-up-of-2", 2))

    def test_a_configuration_from_a_named_pipe_is_read_once(self):
        pipe = self.folder / "pipe.yaml"
        os.mkfifo(pipe)
        process = bb.start(1, "train", pipe, f"output={self.folder}/piped", "train.max_steps=1", "train.warmup_steps=0")
        pipe.write_text(self.config.read_text())
        said = process.communicate(timeout=120)[1]
        self.assertEqual(process.returncode, 0, said)

    def test_absurd_plans_and_rotations_end_at_once(self):
        for setting in ("model.head_dim=1000000000", "length=1000000000000", "rope.factor=1e300",
                        "rope.original_max_position_embeddings=1000000000000", "model.max_position_embeddings=1000000000000"):
            kind = ["rope.type=yarn"] if setting.startswith(("rope.factor", "rope.original")) else []
            factor = ["rope.factor=2"] if setting.startswith("rope.original") else []
            self.refused(64, "rope", *kind, *factor, setting)
        for setting in ("plan.ranks=1000000000", "plan.nodes=9223372036854775807", "plan.ranks_per_node=4294967297",
                        "model.num_hidden_layers=1000000000", "data.sequence_length=4g", "data.sequence_length=1t",
                        "model.vocab_size=1000000000000000"):
            self.refused(64, "plan", self.config, "plan.profile=h100-sxm", setting)
        self.refused(64, "plan", self.config, "plan.profile=h100-sxm", "plan.nodes=100000", "plan.ranks_per_node=100000")
        for setting in ("far=4611686018427387904", "near=4611686018427387904", "modulus=9223372036854775807", "length=9223372036854775807"):
            self.refused(64, "posgen", self.folder / "x.jsonl", "task=recursive", setting)
        self.refused(64, "sweep", self.sweep("lengths: [9223372036854775807]"))
        for key in ("count", "modulus", "far", "train_length"):
            task = f"tasks=[{{task: posgen, {key}: 9223372036854775807}}]"
            self.refused(64, "sweep", self.sweep("lengths: [16]"), task, says=key)

    def sweep(self, lengths):
        path = self.folder / "limits-sweep.yaml"
        path.write_text(f"models: [{self.folder}/run]\n{lengths}\ntasks: [{{task: posgen, count: 2}}]\noutput: {self.folder}/s\n")
        return path

    def test_numbers_beyond_a_double_are_named_by_line(self):
        data = self.folder / "numbers.jsonl"
        for field in ("id", "x", "tokens", "loss_mask"):
            row = {"tokens": "[1,2]"} | {field: "[1e999,1]" if field in ("tokens", "loss_mask") else "1e999"}
            data.write_text('{"tokens":[1,2]}\n{' + ",".join(f'"{k}":{v}' for k, v in row.items()) + "}\n")
            self.refused(65, "tokenize", data, f"output={self.folder}/n.h5", "vocab_size=22", says="numbers.jsonl:2")

    def test_compressed_files_are_known_by_what_they_are(self):
        (self.folder / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd1234")
        self.refused(65, "tokenize", self.folder / "a.jsonl.zst", f"output={self.folder}/z.h5", says="zstd")
        for name, head in (("b.jsonl", b"\x1f\x8b\x08\0\0\0"), ("c.txt", b"\x28\xb5\x2f\xfd"),
                           ("d.jsonl", b"PK\x03\x04aaaa"), ("e.jsonl", b"\xfd7zXZ\0\0"), ("f.txt.bz2", b"BZh9")):
            path = self.folder / name
            path.write_bytes(head)
            self.refused(64, "tokenize", path, f"output={self.folder}/z.h5", says="compressed")

    def test_no_library_exception_is_our_bug(self):
        """Text that is not UTF-8, JSON of another kind, folders without permission: the user's errors, reported with their
        place."""
        raw = os.fsencode(bb.CARILLON)
        for arguments in ([b"eval", b"model=\xff\xfe", b"length=8", b"task={task: posgen}"], [b"rope", b"rope.type=\xff"],
                          [b"train", os.fsencode(self.config), b"output=" + os.fsencode(self.folder) + b"/\xff\xfe"]):
            done = subprocess.run([raw, *arguments], capture_output=True)
            self.assertIn(done.returncode, (0, 64, 65, 66, 73), (arguments, done.stderr))
        hf = self.folder / "hf"
        hf.mkdir()
        for text in ('{"model_type": 7}', '{"model_type": "llama", "vocab_size": 1e999}', "[1]", '{"model_type": {"a": 1}}',
                     '{"model_type": "llama", "eos_token_id": {"a": 1}, "rope_scaling": 7, "architectures": {}}'):
            (hf / "config.json").write_text(text)
            for command in (["inspect", hf], ["import", hf, self.folder / "out.h5"], ["generate", f"model={hf}", "tokens=[1]"]):
                done = bb.run(1, *command, expect=None)
                self.assertIn(done.returncode, (64, 65, 66), (text, command, done.stderr))
        results = self.folder / "results"
        results.mkdir()
        for line in ('{"point": 7}', '{"step": "x", "loss": {}}', '{"point": "a", "status": 1, "metrics": []}'):
            (results / "evals.jsonl").write_text(line + "\n")
            (results / "metrics.jsonl").write_text(line + "\n")
            done = bb.run(1, "report", results, self.folder / "page.html", expect=None)
            self.assertIn(done.returncode, (0, 64, 65, 66), (line, done.stderr))

    # --- Slurm --------------------------------------------------------------------------------------------------------

    def test_jobs_that_cannot_work_are_refused(self):
        for settings in (["slurm.time=5m"], ["slurm.time=6m"], ["slurm.time=10m", "slurm.signal_seconds=999999"],
                         ["slurm.nodes=2", "slurm.tasks_per_node=3", "parallel.context=4"], ["slurm.nodes=4", "parallel.data=3"],
                         ["parallel.tensor=3", "slurm.nodes=3"], ["slurm.nodes=9223372036854775807", "slurm.tasks_per_node=2"],
                         ["parallel.context=32", "slurm.nodes=32"], ["slurm.time=100000d"]):
            self.refused(64, "slurm", self.config, *settings)
        bb.run(1, "slurm", self.config, "slurm.time=7m")
        bb.run(1, "slurm", self.config, "slurm.nodes=2", "slurm.tasks_per_node=2", "parallel.context=2")

    def test_jobs_on_gpus_ask_for_them(self):
        def script(*settings):
            return bb.run(1, "slurm", self.config, "slurm.tasks_per_node=4", *settings).stdout
        self.assertNotIn("gpu", script())
        self.assertNotIn("gpu", script("runtime.device=cpu"))
        for settings, asked, bound in (
                (["runtime.device=cuda"], "#SBATCH --gpus-per-node=4\n", True),
                (["slurm.gpus_per_node=8"], "#SBATCH --gpus-per-node=8\n", True),  # device auto, number of GPUs given
                (["runtime.device=cuda", "slurm.gpu_request=gres"], "#SBATCH --gres=gpu:4\n", True),
                (["runtime.device=cuda", "slurm.gpu_request=gpus-per-task"], "#SBATCH --gpus-per-task=1\n", False)):
            text = script(*settings)
            self.assertIn(asked, text)
            # Every rank must see all GPUs of its node, or NCCL cannot connect them directly.
            self.assertEqual("--gpu-bind=none" in text, bound, settings)
        for settings in (["runtime.device=cuda", "slurm.gpus_per_node=0"], ["runtime.device=cuda", "slurm.gpus_per_node=3"],
                         ["runtime.device=cpu", "slurm.gpus_per_node=4"], ["slurm.gpu_request=gpu"],
                         ["runtime.device=cuda", "slurm.gpus_per_node=6", "slurm.gpu_request=gpus-per-task"]):
            self.refused(64, "slurm", self.config, "slurm.tasks_per_node=4", *settings)

    def test_the_committed_scripts_are_what_the_command_writes(self):
        root = pathlib.Path(__file__).resolve().parents[2]
        for name, config, *settings in (
                ("train", "finetune_8k_cpu", "slurm.nodes=4", "slurm.cpus_per_task=16", "slurm.time=12h", "parallel.context=4"),
                ("eval_sweep", "sweep_posgen", "slurm.array=16", "parallel.context=1")):
            config = f"launch/configs/{config}.yaml"
            written = bb.run(1, "slurm", root / config, *settings).stdout.replace(f"{root}/{config}", config)
            self.assertEqual(written, (root / f"launch/slurm/{name}.sbatch").read_text(), name)

    def test_the_script_starts_again_as_often_as_there_is_progress(self):
        """Runs the script itself with stand-ins for srun, scontrol and sleep."""
        stand_ins = self.folder / "stand-ins"
        stand_ins.mkdir()
        output = self.folder / "job run's"
        script = self.folder / "job.sh"
        script.write_text(bb.run(1, "slurm", self.config, "slurm.nodes=2", f"output={output}").stdout)
        subprocess.run(["bash", "-n", script], check=True)
        for name, text in (("srun", "exit $(cat $T/code)"), ("scontrol", "echo $@ >>$T/requeued"), ("sleep", "")):
            (stand_ins / name).write_text(f"#!/bin/bash\n{text}\n")
            (stand_ins / name).chmod(0o755)
        requeued = self.folder / "requeued"

        def start(code, job="1", step=None):
            """Whether the job is queued again after its command exited with `code`."""
            (self.folder / "code").write_text(str(code))
            if step is not None:
                (output / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
            requeued.unlink(missing_ok=True)
            done = subprocess.run(["bash", script], capture_output=True, text=True,
                                  env={**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "T": str(self.folder),
                                       "SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "n", "SLURM_RESTART_COUNT": "17"})
            self.assertEqual(done.returncode, code, done.stderr)
            return requeued.exists()

        self.assertTrue(all(start(85) for _ in range(6)), "stops by a signal cost nothing")
        self.assertEqual([start(code) for code in (75, 137, 74, 139)], [True, True, True, False], "three without progress")
        self.assertFalse(start(75))
        self.assertTrue(start(75, step=100), "a step was committed: counted anew")
        self.assertTrue(start(85))
        self.assertEqual([start(139) for _ in range(3)], [True, True, False])
        self.assertTrue(start(137, job="2"), "another job has its own count")
        for code in (0, 64, 65, 66, 70, 73, 76, 1):
            self.assertFalse(start(code, step=1000 + code), code)

    def test_a_sweeps_script_counts_its_records(self):
        text = bb.run(1, "slurm", self.sweep("lengths: [8]"), "slurm.array=3").stdout
        self.assertIn("evals.jsonl", text)


if __name__ == "__main__":
    unittest.main()
