"""An output that is an input is refused whatever it is called; so is somebody else's file, unless overwrite=true."""

import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support")]
import black_box as bb
import tiny_model as tiny

POSGEN = ["task=recursive", "count=3", "length=8", "seed=1"]


class Outputs(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.input = tiny.documents(self.folder / "in.jsonl")
        self.model = tiny.folder(self.folder / "model")

    def kept(self, path, *arguments, word="which is read"):
        """The command is refused and the file stays as it was."""
        path = pathlib.Path(path)
        before = path.read_bytes()
        done = bb.run(1, *arguments, expect=64)
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual(done.stderr.count("carillon: error:"), 1, done.stderr)
        self.assertIn(word, done.stderr)

    def commands(self, output):
        return {"score": ["score", f"model={self.model}", f"input={self.input}", f"output={output}"],
                "tokenize": ["tokenize", self.input, f"output={output}"],
                "import": ["import", self.model, output],
                "generate": ["generate", f"model={self.model}", f"input={self.input}", f"output={output}",
                             "max_new_tokens=1"]}

    def test_an_input_under_any_name(self):
        link, hard = self.folder / "link.jsonl", self.folder / "hard.jsonl"
        link.symlink_to(self.input)
        os.link(self.input, hard)
        around = self.folder / "model/../in.jsonl"
        for output in (self.input, link, hard, around):
            for name, arguments in self.commands(output).items():
                if name != "import":  # import has other inputs
                    self.kept(self.input, *arguments, "overwrite=true")
        weights = self.model / "model.safetensors"
        for name in ("score", "import", "generate"):
            self.kept(weights, *self.commands(weights)[name], "overwrite=true")
        os.link(weights, self.folder / "w.h5")
        self.kept(weights, *self.commands(self.folder / "w.h5")["import"])

    def test_a_model_exported_over_itself(self):
        file = self.folder / "m.h5"
        bb.run(1, "import", self.model, file)
        self.kept(file, "export", file, file, word="which is read")
        self.kept(self.model / "config.json", "export", self.model, self.model)
        self.kept(self.model / "config.json", "export", self.model, str(self.model) + "/../model/")
        bb.run(1, "export", file, self.model)  # a folder of another export of the same model is not an input

    def test_foreign_files(self):
        notes = self.folder / "notes.txt"
        notes.write_text("thoughts of a year\n")
        for arguments in [*self.commands(notes).values(), ["posgen", notes, *POSGEN], ["report", self.model, notes]]:
            self.kept(notes, *arguments, word="overwrite=true")
        # The output of another command also counts as foreign.
        bb.run(1, "posgen", self.folder / "p.jsonl", *POSGEN)
        self.kept(self.folder / "p.jsonl", *self.commands(self.folder / "p.jsonl")["score"], word="overwrite=true")
        bb.run(1, *self.commands(self.folder / "t.h5")["tokenize"])
        self.kept(self.folder / "t.h5", *self.commands(self.folder / "t.h5")["import"], word="overwrite=true")
        # A folder whose config.json is not that of a model.
        project = self.folder / "project"
        project.mkdir()
        (project / "config.json").write_text("{}")
        self.kept(project / "config.json", "export", self.model, project, word="overwrite=true")
        bb.run(1, "export", self.model, project, "overwrite=true")
        for arguments in [*self.commands(notes).values(), ["posgen", notes, *POSGEN]]:
            bb.run(1, *arguments, "overwrite=true")

    def test_its_own_files_are_replaced(self):
        for name in self.commands(""):
            output = self.folder / f"own-{name}"
            for _ in range(2):
                bb.run(1, *self.commands(output)[name])
            self.assertGreater(output.stat().st_size, 0)
        for _ in range(2):
            bb.run(1, "posgen", self.folder / "p.jsonl", *POSGEN)
        empty = self.folder / "empty"
        for name in self.commands(""):
            empty.write_bytes(b"")
            bb.run(1, *self.commands(empty)[name])
        bb.run(1, *self.commands("/dev/null")["score"])

    def test_devices_and_pipes_are_not_replaced(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for name in ("import", "tokenize"):
            done = bb.run(1, *self.commands(pipe)[name], expect=64)
            self.assertIn("device or a pipe", done.stderr)
            self.assertTrue(pipe.is_fifo())
        target, link = self.folder / "elsewhere/m.h5", self.folder / "link.h5"
        target.parent.mkdir()
        link.symlink_to(target)
        for _ in range(2):
            bb.run(1, *self.commands(link)["import"])
            self.assertTrue(link.is_symlink())
        self.assertTrue(target.is_file())

    def test_a_command_that_is_stopped_leaves_nothing_half_written(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            pipe = self.folder / "rows.jsonl"
            os.mkfifo(pipe)
            process = bb.start(1, "tokenize", pipe, f"output={self.folder}/t.h5", "vocab_size=23")
            with open(pipe, "w") as rows:
                rows.write('{"tokens": [1, 2, 3]}\n' * 1000)
                rows.flush()
                while not list(self.folder.glob("t.h5.tmp-*")) and process.poll() is None:
                    time.sleep(0.02)
                process.send_signal(number)
                self.assertEqual(process.wait(timeout=60), -number)
            process.communicate()
            pipe.unlink()
            self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["in.jsonl", "model"])

    def test_names_that_are_none(self):
        around = f"{self.folder}/missing/../out"
        for output, word in (("", "no name|not empty"), ("~/out", "shell"), (around, "missing, which does not exist")):
            for arguments in (*(self.commands(output)[name] for name in ("score", "tokenize", "import")),
                              ["export", self.model, output], ["posgen", output, *POSGEN]):
                done = bb.run(1, *arguments, expect=64)
                self.assertEqual(done.stderr.count("carillon: error:"), 1, done.stderr)
                self.assertRegex(done.stderr, word)
                self.assertFalse((self.folder / "missing").exists())
        self.kept(self.input, "export", self.model, f"{self.input}/", word="is a file")
        template = self.folder / "chat.jinja"
        template.write_text("{{ messages }}")
        self.kept(template, "tokenize", self.input, f"output={template}", f"chat_template={template}", "overwrite=true")

    def results(self):
        """A run's and a sweep's configuration, without the output."""
        run, sweep = self.folder / "run.yaml", self.folder / "sweep.yaml"
        (self.folder / "train.jsonl").write_text('{"tokens": [1, 2, 3, 4]}\n' * 8)
        run.write_text((bb.TINY % {"folder": self.folder}).replace("max_steps: 12", "max_steps: 1").replace(
            "warmup_steps: 2", "warmup_steps: 0"))
        sweep.write_text(f"models: [{self.model}]\nlengths: [8]\ntasks: [{{task: perplexity, data: [{{path: {self.input}}}]}}]\n"
                         f"output: {self.folder}/sweep\n")
        return run, sweep

    def test_a_folder_of_results_takes_nothing_from_others(self):
        run, sweep = self.results()
        mine = self.folder / "mine"
        mine.mkdir()
        # The configuration that is read lies where the run's own would: never replaced.
        shutil.copy(run, mine / "config.yaml")
        for more in ([], ["overwrite=true"]):
            self.kept(mine / "config.yaml", "train", mine / "config.yaml", f"output={mine}", *more, word="config.yaml")
        self.kept(mine / "config.yaml", "train", run, f"output={mine}", word="overwrite=true")
        for name in ("table.csv", "report.html"):
            shutil.rmtree(self.folder / "other", ignore_errors=True)
            (self.folder / "other").mkdir()
            (self.folder / "other" / name).write_text("a year's work\n")
            self.kept(self.folder / "other" / name, "sweep", sweep, f"output={self.folder}/other", word="overwrite=true")
        bb.run(1, "sweep", sweep, f"output={self.folder}/other", "overwrite=true")
        bb.run(1, "train", run, f"output={mine}", "overwrite=true")
        self.assertNotIn("overwrite: true", (mine / "config.yaml").read_text())
        # What a run left where its results were thrown away is its own.
        shutil.rmtree(mine / "checkpoints")
        (mine / "metrics.jsonl").unlink()
        bb.run(1, "train", run, f"output={mine}")
        # Their own folders they go on with, from the resolved configuration too.
        bb.run(1, "train", mine / "config.yaml", "train.max_steps=2")
        bb.run(1, "sweep", sweep, f"output={self.folder}/other")

    def test_a_folder_of_another_kind(self):
        run, sweep = self.results()
        bb.run(1, "train", run)
        bb.run(1, "sweep", sweep)
        page = self.folder / "run/report.html"
        self.kept(page, "sweep", sweep, f"models=[{self.folder}/run]", f"output={self.folder}/run", word="another kind")
        for folder in (self.model, self.folder / "run/checkpoints/step-00000001", self.folder / "sweep"):
            before = sorted(folder.iterdir())
            done = bb.run(1, "train", run, f"output={folder}", expect=64)
            self.assertIn("another kind", done.stderr)
            self.assertEqual(sorted(folder.iterdir()), before)
        # Nor by way of a folder that the check does not find and the start would make.
        self.kept(page, "sweep", sweep, f"output={self.folder}/missing/../run", word="missing, which does not exist")
        self.assertEqual(bb.run(1, "train", run, f"output={self.folder}/missing/../sweep", expect=64).stdout, "")
        self.assertFalse((self.folder / "missing").exists())

    def test_profiles_and_traces(self):
        run, _ = self.results()
        self.kept(self.input, "bench", "bench.seconds=0.01", f"bench.output={self.input}", word="overwrite=true")
        self.kept(self.input, "train", run, f"runtime.trace={self.input}", word="overwrite=true")
        self.assertFalse((self.folder / "run").exists())
        for output in ("first", "second"):
            bb.run(1, "train", run, f"runtime.trace={self.folder}/trace.json", f"output={self.folder}/{output}")

    def test_a_diagram_over_a_diagram(self):
        chart = self.folder / "chart.svg"
        bb.run(1, "rope", f"svg={chart}")
        bb.run(1, "rope", f"svg={chart}", "rope.type=yarn", "rope.factor=4")
        self.kept(self.input, "rope", f"svg={self.input}", word="not a file of this command")
        drawing = self.folder / "drawing.svg"
        drawing.write_text("<svg xmlns=\"http://www.w3.org/2000/svg\"><circle r=\"1\"/></svg>")
        self.kept(drawing, "rope", f"svg={drawing}", word="overwrite=true")
        bb.run(1, "rope", f"svg={drawing}", "overwrite=true")
        self.assertIn("wavelength", drawing.read_text())
        power = self.folder / "power.json"
        power.write_text(json.dumps({"metrics": {"pair_power": [1.0] * 64}}))
        self.kept(power, "rope", f"svg={power}", f"pair_power={power}", "overwrite=true")

    def test_a_page_over_a_page(self):
        results = self.folder / "sweep"
        results.mkdir()
        (results / "evals.jsonl").write_text(json.dumps(
            {"point": "a", "model": "m", "step": None, "rope_name": "own", "rope": {}, "length": 8, "task": "perplexity",
             "status": "ok", "metrics": {"loss": 1.0, "perplexity": 2.7}, "seconds": 1}) + "\n")
        for _ in range(2):
            bb.run(1, "report", results, results / "report.html")
        self.kept(results / "evals.jsonl", "report", results, results / "evals.jsonl", "overwrite=true")
        whole = (results / "evals.jsonl").read_text()
        for key, value in (("task", 5), ("length", "8"), ("metrics", 3), ("rope", "yarn"), ("rope_name", None)):
            (results / "evals.jsonl").write_text(whole + json.dumps({**json.loads(whole), "point": "b", key: value}) + "\n")
            done = bb.run(1, "report", results, results / "report.html", expect=65)
            self.assertIn(f"`{key}` is not", done.stderr)
            self.assertIn("evals.jsonl:2", done.stderr)
        # A page that somebody else put into a run's folder outlives `watch`.
        run = self.folder / "run"
        run.mkdir()
        (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
        (run / "ended").write_text("1\n")
        bb.run(1, "watch", run)
        self.assertIn('content="carillon', (run / "report.html").read_text())
        bb.run(1, "watch", run)
        (run / "report.html").write_text("mine")
        self.assertIn("was not written by carillon", bb.run(1, "watch", run).stderr)
        self.assertEqual((run / "report.html").read_text(), "mine")

    def test_a_model_is_not_exported_into_a_run(self):
        for name in ("metrics.jsonl", "evals.jsonl", "checkpoints/latest"):
            folder = self.folder / name.split(".")[0].replace("/", "-")
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text("{}\n")
            self.kept(folder / name, "export", self.model, folder, word="it is that of a run or a sweep")
            self.assertFalse((folder / "config.json").exists())
        bb.run(1, "export", self.model, folder / "export")  # within is well

    def test_a_link_to_nothing(self):
        link = self.folder / "link"
        link.symlink_to("nothing")
        done = bb.run(1, "export", self.model, link, expect=64)
        self.assertIn("is a link to something that does not exist", done.stderr)
        self.assertTrue(link.is_symlink())


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
