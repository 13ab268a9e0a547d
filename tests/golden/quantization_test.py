"""Quantised bases. Compares the papers' formulas (quantization.py) with the results of bitsandbytes
(make_quantization.py), and the program with the formulas (black box): ten steps of an adapter on a base that the
program quantises equal those on a base whose weights numpy has quantised, in loss and gradient norm to 1e-9 in float64,
on every layout."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

import numpy
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import adapters
import black_box as bb
import cases
import quantization
from family_training_test import CONFIG
from make_quantization import SHAPES, matrix

LAYOUTS = {"1": (1, []), "tp2": (2, ["parallel.tensor=2"]), "tp4": (4, ["parallel.tensor=4"]),
           "tp2cp2": (4, ["parallel.tensor=2", "parallel.context=2"]),
           "dp2": (2, ["parallel.data=2", "parallel.zero=2", "train.micro_batch_size=1"]),
           "tiles": (2, ["parallel.tensor=2", "train.mlp_tile=7", "train.recompute=full"])}


def read_tensors(path):
    """{name: float64 array}; the safetensors package cannot read bfloat16 into numpy."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (numpy.frombuffer(data[begin:end], "<u2").astype(numpy.uint32) << 16).view(numpy.float32)
        else:
            values = numpy.frombuffer(data[begin:end], {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        tensors[name] = values.astype(numpy.float64).reshape(entry["shape"])
    return tensors


class Quantization(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_the_numbers_are_the_papers(self):
        self.assertLess(numpy.abs(quantization.nf4_numbers() - quantization.NF4).max(), 2e-7)
        self.assertEqual(len(quantization.scale_numbers()), 256)

    def test_bitsandbytes_has_the_same(self):
        for index, (shape, record) in enumerate(zip(SHAPES, json.loads((HERE / "expected/quantization.json").read_text()))):
            self.assertEqual(record["shape"], list(shape))
            ours = matrix(index, shape)
            codes, _ = quantization.nf4(ours)
            self.assertEqual("".join(f"{code:x}" for code in codes), record["codes"])
            values = quantization.values(ours, "nf4").reshape(-1)[:: 1 + ours.size // 1000]
            self.assertEqual(len(values), len(record["values"]))
            distance = numpy.abs(values - record["values"]) / numpy.abs(values).max()
            self.assertLess((distance > 1e-6).mean(), 0.01)  # scales that bitsandbytes did not round to nearest
            self.assertLess(distance.max(), 1e-3)

    def quantised_by_numpy(self, base, kind):
        folder = self.folder / f"{base.name}-{kind}"
        shutil.copytree(base, folder)
        tensors = read_tensors(folder / "model.safetensors")
        for name, values in tensors.items():
            linear = name.endswith("_proj.weight")
            tensors[name] = quantization.values(values, kind) if linear else values
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def train(self, name, base, ranks, keys):
        output = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "run"
        bb.run(ranks, "train", self.folder / f"{name}.yaml", f"output={output}", f"model.base={base}", *keys)
        return [(record["loss"], record["grad_norm"]) for record in bb.metrics(output)]

    def test_the_program_has_the_same(self):
        for name in ("llama", "gemma3_text"):
            data = self.folder / f"data-{name}"
            data.mkdir()
            (data / "train.jsonl").write_text("".join(
                json.dumps({"tokens": tokens, "loss_mask": weights}) + "\n"
                for tokens, weights in cases.training_documents(adapters.vocabulary(name))))
            base = adapters.base_folder(self.folder, name)
            adapter = adapters.make(self.folder / f"adapter-{name}", name, base=base)
            (self.folder / f"{name}.yaml").write_text(CONFIG % {
                "model": base, "folder": data, "length": cases.SEQUENCE_LENGTH, **cases.TRAINING} +
                f"adapter: {{type: lora, base: {adapter}}}\n")
            plain = self.train(name, base, 1, [])
            for kind in ("int8", "nf4"):
                expected = self.train(name, self.quantised_by_numpy(base, kind), 1, [])
                self.assertGreater(max(abs(a[0] - b[0]) for a, b in zip(plain, expected)), 1e-5)
                for layout, (ranks, keys) in LAYOUTS.items():
                    with self.subTest(case=name, kind=kind, layout=layout):
                        got = self.train(name, base, ranks, [f"adapter.base_quantization={kind}", *keys])
                        for mine, theirs in zip(got, expected, strict=True):
                            for x, y in zip(mine, theirs):
                                self.assertLessEqual(abs(x - y), 1e-9 * abs(y))


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
