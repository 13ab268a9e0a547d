"""Standard streams and signals as used by daemons, pipelines, full disks and schedulers. Black box."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import black_box as bb

LONG = ["train.max_steps=1000000", "train.lr_scheduler=constant", "checkpoint.every_steps=1000000"]


class Streams(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        bb.run(1, "train", cls.config)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_closed_descriptors_swallow_no_file(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            output = self.folder / f"closed-{len(closed)}{closed[0] == '2'}"
            done = subprocess.run(["bash", "-c", f"exec {closed}; exec \"$@\"", "_",
                                   *bb.command(1, "train", self.config, f"output={output}", "train.max_steps=3")],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 0, closed)
            self.assertEqual([r["step"] for r in bb.metrics(output)], [1, 2, 3], closed)

    def test_lost_output_is_74_for_every_command(self):
        """A full device, a closed descriptor and a reader that has gone, detected before any input is read."""
        commands = [["rope", "model.head_dim=8"], ["info"], ["--help"], ["plan", self.config, "plan.profile=h100-sxm", "--json"],
                    ["generate", f"model={self.folder}/run", "tokens=[1,2]", "max_new_tokens=2"],
                    ["slurm", self.config], ["inspect", self.folder / "run"]]
        for arguments in commands:
            with open("/dev/full", "w") as full:
                done = subprocess.run(bb.command(1, *arguments), stdout=full, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 74, arguments)
            self.assertIn("carillon: error: ", done.stderr)
            self.assertIn("standard output", done.stderr)
        for how in (">&-", "> >(exec <&-; sleep 1)"):
            done = subprocess.run(["bash", "-c", f"sleep 0.2; exec \"$@\" {how}", "_", *bb.command(1, "rope")],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 74, how)

    def test_an_output_called_standard_output_is_lost_with_it(self):
        score = ["score", f"model={self.folder}/run", f"input={self.folder}/train.jsonl", "output=/dev/stdout"]
        for arguments in (["posgen", "/dev/stdout", "task=recursive", "length=8", "count=2"], score,
                          ["report", self.folder / "run", "/dev/stdout"]):
            whole = bb.run(1, *arguments)
            self.assertTrue(whole.stdout)
            done = subprocess.run(["bash", "-c", "exec \"$@\" >&-", "_", *bb.command(1, *arguments)], stderr=subprocess.PIPE,
                                  text=True)
            self.assertEqual(done.returncode, 74, arguments)
            self.assertIn("/dev/stdout", done.stderr)

    def test_a_reader_of_the_log_that_goes_away_does_not_end_training(self):
        output = self.folder / "reader"
        process = subprocess.Popen(bb.command(1, "train", self.config, f"output={output}", "train.max_steps=300",
                                              "train.lr_scheduler=constant"), stderr=subprocess.PIPE)
        process.stderr.readline()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=120), 0)
        self.assertEqual(len(bb.metrics(output)), 300)

    def test_two_signals_at_once_are_one_and_a_later_one_leaves(self):
        for number in (signal.SIGTERM, signal.SIGUSR2):
            output = self.folder / f"twice-{number.name}"
            process = bb.start(1, "train", self.config, f"output={output}", *LONG)
            bb.wait_for_steps(output, 3, process)
            for _ in range(3):
                process.send_signal(number)
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, 85, number.name)
            self.assertEqual(len(list((output / "checkpoints").glob("step-*"))), 1)

    def test_a_limit_on_processor_time_ends_a_run_after_a_checkpoint(self):
        """The system repeats SIGXCPU every second of the processor: one request, however long the step takes."""
        output = self.folder / "processor"
        process = bb.start(1, "train", self.config, f"output={output}", *LONG)
        bb.wait_for_steps(output, 3, process)
        process.send_signal(signal.SIGXCPU)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 85)
        self.assertEqual(len(list((output / "checkpoints").glob("step-*"))), 1)
        limited = subprocess.run(["bash", "-c", "ulimit -S -t 3; exec \"$@\"", "_", *bb.command(
            1, "train", self.config, f"output={self.folder}/limited", *LONG)], capture_output=True, text=True, timeout=300)
        self.assertEqual(limited.returncode, 85, limited.stderr)

    def test_a_terminal_that_closes_ends_a_run_after_a_checkpoint_and_nohup_outlives_it(self):
        output = self.folder / "hangup"
        process = bb.start(1, "train", self.config, f"output={output}", *LONG)
        bb.wait_for_steps(output, 3, process)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 85)
        self.assertEqual(len(list((output / "checkpoints").glob("step-*"))), 1)
        output = self.folder / "nohup"
        process = subprocess.Popen(bb.command(1, "train", self.config, f"output={output}", *LONG), stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        bb.wait_for_steps(output, 3, process)
        process.send_signal(signal.SIGHUP)
        bb.wait_for_steps(output, len(bb.metrics(output)) + 3, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 85)

    def test_a_signal_at_any_moment_of_the_start_is_honoured(self):
        """The signal never kills the program or gets lost: it exits with 85, and the next start continues."""
        output = self.folder / "early"
        for delay in (0.03, 0.06, 0.1, 0.15, 0.25, 0.4):
            process = bb.start(1, "train", self.config, f"output={output}", *LONG)
            time.sleep(delay)
            process.send_signal(signal.SIGTERM)
            try:
                errors = process.communicate(timeout=30)[1]
            finally:
                process.kill()
            if process.returncode == -signal.SIGTERM and not output.exists():
                continue  # on a busy machine the signal came before the program's first line
            self.assertEqual(process.returncode, 85, (delay, errors))
            self.assertNotIn("error", errors)
        bb.run(1, "train", self.config, f"output={output}", "train.max_steps=2", "train.lr_scheduler=constant", expect=None)

    def test_a_signal_while_data_is_read_is_honoured(self):
        slow = self.folder / "slow.jsonl"  # takes seconds to read
        with open(slow, "w") as file:
            line = json.dumps({"tokens": [3] * 5000}) + "\n"
            for _ in range(20000):
                file.write(line)
        output = self.folder / "reading"
        process = bb.start(1, "train", self.config, f"output={output}", f"data.train=[{{path: {slow}}}]",
                           environment={"CARILLON_CACHE": str(self.folder / "cache")})
        deadline = time.monotonic() + 60
        while not (output / ".running").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 85)
        left = {p.name for p in output.iterdir()} if output.exists() else set()
        self.assertLessEqual(left, {".running"}, "nothing had begun: at most a dead lock is left")

    def test_a_signal_ends_a_sweep_which_then_goes_on(self):
        sweep = self.folder / "sweep.yaml"
        sweep.write_text(json.dumps({"models": [str(self.folder / "run")], "lengths": list(range(8, 33)),
                                     "tasks": [{"task": "posgen", "train_length": 8, "count": 40}],
                                     "runtime": {"dtype": "float64"}, "output": str(self.folder / "sweep")}))
        process = bb.start(1, "sweep", sweep)
        records = self.folder / "sweep/evals.jsonl"
        deadline = time.monotonic() + 60
        while (not records.exists() or records.stat().st_size == 0) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=30)[1]
        self.assertEqual(process.returncode, 85, errors)
        bb.run(1, "sweep", sweep)
        points = [json.loads(line)["point"] for line in records.read_text().splitlines()]
        self.assertEqual(len(points), len(set(points)))

    def test_other_commands_die_of_a_signal_as_any_program(self):
        process = subprocess.Popen(["bash", "-c", "exec \"$@\" > >(sleep 5)", "_", *bb.command(
            1, "posgen", "/dev/stdout", "task=recursive", "length=4000", "count=1000")])
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=30), -signal.SIGTERM)

    def test_names_forge_no_line_and_drive_no_terminal(self):
        evil = "/x\x1b[31m\ncarillon: error: forged\x9b"
        listed = "[{path: " + json.dumps(evil) + "}]"
        for arguments in (["train", self.config, f"data.train={listed}"], ["inspect", evil], ["report", evil, "/tmp/x.html"],
                          ["generate", f"model={evil}", "tokens=[1]"], ["rope", f"rope.{evil}=1"]):
            done = bb.run(1, *arguments, f"output={self.folder}/evil" if arguments[0] == "train" else "--quiet", expect=None)
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertNotIn("\x1b", done.stderr)
            self.assertNotIn("\x9b", done.stderr)
            self.assertEqual(sum(l.startswith("carillon: error") for l in done.stderr.splitlines()), 1, done.stderr)

    def test_a_limit_on_file_sizes_is_an_error_not_a_death(self):
        done = subprocess.run(["bash", "-c", "ulimit -f 20; exec \"$@\"", "_",
                               *bb.command(1, "train", self.config, f"output={self.folder}/limited")],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertIn("carillon: error: ", done.stderr)


if __name__ == "__main__":
    unittest.main()
