"""Other programs read our files: checkpoints and model files through h5py and h5dump."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / part) for part in ("support", "golden")]
import black_box as bb
import cases
import golden_folder

try:
    import h5py
    import numpy
    from safetensors.numpy import load_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


class ForeignReader(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.config = bb.tiny_run(cls.folder)
        bb.run(2, "train", cls.config, "runtime.dtype=bfloat16", "parallel.tensor=2", "train.max_steps=4")
        cls.checkpoint = cls.folder / "run/checkpoints/step-00000004"

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_a_checkpoint_opens_in_h5py(self):
        manifest = json.loads((self.checkpoint / "manifest.json").read_text())
        with h5py.File(self.checkpoint / "state.h5") as file:
            self.assertEqual(sorted(file), ["model", "optimizer"])
            self.assertEqual(sorted(file["optimizer"]), ["exp_avg", "exp_avg_sq", "master"])
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            self.assertEqual(sorted(names), sorted(manifest["tensors"]))
            for name in names:
                self.assertEqual(list(file[name].shape), manifest["tensors"][name]["shape"])
            weight = file["model/model.layers.0.mlp.gate_proj.weight"]
            master = file["optimizer/master/model.layers.0.mlp.gate_proj.weight"]
            self.assertEqual(weight.attrs["dtype"], "bfloat16")
            self.assertEqual(master.dtype, numpy.float32)
            # The weights are the masters rounded to nearest even.
            bits = master[()].view(numpy.uint32)
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(numpy.uint32).view(numpy.float32)
            numpy.testing.assert_array_equal(weight[()].astype(numpy.float32), rounded)

    def test_h5dump_prints_numbers(self):
        if shutil.which("h5dump") is None:
            self.skipTest("h5dump is not installed")
        text = subprocess.run(["h5dump", "-d", "/model/model.norm.weight", str(self.checkpoint / "state.h5")],
                              capture_output=True, text=True, check=True).stdout
        self.assertIn("16-bit little-endian floating-point", text)
        self.assertIn("SIMPLE { ( 32 ) / ( 32 ) }", text)

    def test_a_model_file_keeps_every_byte(self):
        source = golden_folder.make(self.folder, "hf", "qwen3", cases.ARCHITECTURES["qwen3"])
        bb.run(1, "import", source, self.folder / "model.h5")
        with h5py.File(self.folder / "model.h5") as file:
            self.assertEqual(list(file), ["model"])
            self.assertEqual(json.loads(file.attrs["config"]), json.loads((source / "config.json").read_text()))
            self.assertIn("format_version", file.attrs)
            try:
                tensors = load_file(source / "model.safetensors")
            except TypeError:  # numpy alone has no bfloat16
                tensors = {}
            for name, tensor in tensors.items():
                numpy.testing.assert_array_equal(file["model"][name][()].astype(numpy.float32), tensor.astype(numpy.float32))
            self.assertEqual(len(file["model"]), 25)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
