"""HDF5 files of unknown origin: plain numeric arrays are read; anything else is 65 with one line, quickly and in little
memory, and no other file is opened. Needs h5py."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "support")]
import black_box as bb
import tiny_model as tiny

try:
    import h5py
    import numpy
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

NAME = "model/model.layers.0.mlp.gate_proj.weight"


class ForeignHdf5(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.input = tiny.documents(self.folder / "in.jsonl")

    def score(self, model, expect=0):
        output = self.folder / "out.jsonl"
        output.unlink(missing_ok=True)
        done = bb.run(1, "score", f"model={model}", f"input={self.input}", f"output={output}", expect=expect)
        return done.stderr if expect else [json.loads(line)["logprobs"] for line in output.read_text().splitlines()]

    def refused(self, path, *words, shown=False):
        """By score and export, and by inspect unless `shown`: 65 and one line."""
        for command in (["score", f"model={path}", f"input={self.input}", f"output={self.folder}/o"],
                        ["export", path, self.folder / "exported"], ["inspect", path])[:2 if shown else 3]:
            process = subprocess.Popen([bb.CARILLON, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True)
            _, stderr = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 65, f"{command[0]}: {stderr}")
            self.assertEqual(stderr.count("carillon: error:"), 1, stderr)
            for word in words:
                self.assertIn(word, stderr.splitlines()[0])
        self.assertFalse((self.folder / "exported").exists())

    def changed(self, change, libver=None):
        path = tiny.model_file(self.folder / "m.h5", libver=libver)
        with h5py.File(path, "r+", libver=libver) as file:
            change(file)
        return path

    def replace(self, make):
        """A model file whose gate_proj is created by make(file, name, shape)."""
        def change(file):
            shape = file[NAME].shape
            del file[NAME]
            make(file, NAME, shape)
        return self.changed(change)

    def test_layouts_that_are_read(self):
        expected = self.score(tiny.model_file(self.folder / "plain.h5"))
        for name, options in (("chunks", {"chunks": True}), ("shuffle", {"chunks": True, "shuffle": True}),
                              ("checksum", {"fletcher32": True}), ("gzip", {"compression": "gzip"})):
            path = tiny.model_file(self.folder / f"{name}.h5", **options)
            self.assertEqual(self.score(path), expected, name)
            bb.run(1, "export", path, self.folder / name)
            self.assertEqual(self.score(self.folder / name), expected, name)
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)

        def make(file, name, shape):
            values = numpy.frombuffer(tiny.weights()[name.removeprefix("model/")][2], "<f4").reshape(shape)
            space = h5py.h5s.create_simple(shape)
            made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, compact)
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, numpy.ascontiguousarray(values))
        self.assertEqual(self.score(self.replace(make)), expected, "compact")
        with h5py.File(self.folder / "block.h5", "w", userblock_size=512) as file, \
                h5py.File(tiny.model_file(self.folder / "plain2.h5")) as source:
            for key, value in source.attrs.items():
                file.attrs[key] = value
            source.copy("model", file)
        self.assertEqual(self.score(self.folder / "block.h5"), expected, "user block")

    def test_other_files_are_not_looked_into(self):
        secret = self.folder / "secret"
        secret.write_bytes(b"TOPSECRET" * 1000)
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(
            name, shape, "<f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])), NAME, "another file")
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(
            name, shape, "<f4", external=[("absent", 0, h5py.h5f.UNLIMITED)])), NAME, "another file")
        tiny.model_file(self.folder / "other.h5")

        def virtual(file, name, shape):
            layout = h5py.VirtualLayout(shape, "<f4")
            layout[:] = h5py.VirtualSource("other.h5", NAME, shape)
            file.create_virtual_dataset(name, layout)
        self.refused(self.replace(virtual), NAME, "virtual")
        self.refused(self.replace(lambda file, name, shape: file.__setitem__(name, h5py.ExternalLink("other.h5", NAME))),
                     NAME, "link")
        self.refused(self.replace(lambda file, name, shape: file.__setitem__(name, h5py.SoftLink("/model/model.norm.weight"))),
                     NAME, "link")

    def test_shapes_and_types(self):
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, data=numpy.float32(1))), "gate_proj", shown=True)
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, data=h5py.Empty("<f4"))), NAME)
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, shape, "S4")), NAME, "type")
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, shape, ">f4")), NAME, "type")
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, shape, "c8")), NAME, "type")
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, (1,) * 9, "<f4")), NAME, "9 dims")
        self.refused(self.replace(lambda file, name, shape: file.create_group(name)), "missing", "gate_proj", shown=True)

    def test_size_bombs(self):
        for shape in ((1 << 40,), (1 << 31, 1 << 31), (1 << 62, 2)):
            self.refused(self.replace(lambda file, name, _: file.create_dataset(
                name, shape, "<f4", chunks=(1,) * len(shape))), NAME)
        # A few kilobytes that expand to megabytes of zeros.
        self.refused(self.replace(lambda file, name, _: file.create_dataset(
            name, data=numpy.zeros((1 << 26,), "<f4"), compression="gzip")), NAME, "bytes in a file of")
        # Declared but never written.
        self.refused(self.replace(lambda file, name, shape: file.create_dataset(name, shape, "<f4")), NAME)

    def test_attributes(self):
        text = h5py.string_dtype()
        for value in (numpy.array(["{}"] * 100, dtype=object), numpy.array(["{}"] * 5000, dtype=object)):
            self.refused(self.changed(lambda file: file.attrs.create("config", value, dtype=text), "latest"),
                         "config", "list of")
        self.refused(self.changed(lambda file: file.attrs.create("config", numpy.array([b"{}"] * 5000, "S8")), "latest"),
                     "config", "list of")
        self.refused(self.changed(lambda file: file.attrs.__setitem__("config", 7)), "config", shown=True)
        self.refused(self.changed(lambda file: file.attrs.__setitem__("config", "[" * 100000), "latest"),
                     "nested")
        with_more = self.changed(lambda file: file.attrs.__setitem__("note", [1.5, 2.5]))
        self.score(with_more)

    def test_a_group_that_holds_itself(self):
        self.refused(self.changed(lambda file: file["model"].__setitem__("again", file["model"])), "itself")
        self.refused(self.changed(lambda file: file.__setitem__("model/up", file["/"])), "itself")

    def test_files_that_are_none(self):
        path = self.folder / "m.h5"
        whole = tiny.model_file(self.folder / "whole.h5").read_bytes()
        for content in (b"", b"\x89HDF\r\n\x1a\n", whole[:100], whole[:len(whole) // 2], bytes(5000)):
            path.write_bytes(content)
            self.refused(path, str(path))
        path.unlink()
        os.mkfifo(path)
        self.refused(path, "regular file")
        path.unlink()
        path.symlink_to("/dev/zero")
        self.refused(path, "regular file")

    def test_what_the_environment_and_the_limits_do(self):
        path = tiny.model_file(self.folder / "m.h5")
        for variable in ("HDF5_PLUGIN_PATH", "HDF5_DRIVER", "OMPI_COMM_WORLD_SIZE_OF_ANOTHER", "PMIX_NAMESPACE"):
            bb.run(1, "inspect", path, environment={variable: "core"})
        done = subprocess.run([bb.CARILLON, "inspect", path], capture_output=True, text=True, timeout=120,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)))
        self.assertIn(done.returncode, (0, 74), done.stderr)  # permissions do not limit root
        bb.run(2, "score", f"model={path}", f"input={self.input}", f"output={self.folder}/two", "parallel.context=2")
        self.assertEqual(len((self.folder / "two").read_text().splitlines()), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
