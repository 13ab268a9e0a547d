"""An output that is an input is refused whatever it is called; so is somebody else's file, unless overwrite=true."""

import json
import os
import pathlib
import shutil
import sys
import tempfile
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

    def test_a_page_over_a_page(self):
        results = self.folder / "sweep"
        results.mkdir()
        (results / "evals.jsonl").write_text(json.dumps(
            {"point": "a", "model": "m", "step": None, "rope_name": "own", "rope": {}, "length": 8, "task": "perplexity",
             "status": "ok", "metrics": {"loss": 1.0, "perplexity": 2.7}, "seconds": 1}) + "\n")
        for _ in range(2):
            bb.run(1, "report", results, results / "report.html")
        self.kept(results / "evals.jsonl", "report", results, results / "evals.jsonl", "overwrite=true")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
