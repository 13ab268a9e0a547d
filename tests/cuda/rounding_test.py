"""nvcc rounds a product before it adds to it in the kernels whose bits must repeat (runtime/cuda/sources.cmake): in their
PTX there is no fma but those that division and the like bring, which are the same everywhere."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

# No function of the library with an fma of its own in these.
KERNELS = ["adamw", "rotate", "embedding", "row_scale"]


def fused(command, folder):
    """How many contracted operations the PTX of a compile command has."""
    words = shlex.split(command)
    cut = words.index("-o")
    kept, skip = [], 0
    for word in words[:cut] + words[cut + 2:]:
        if skip or word in ("-c", "-dc") or word.startswith(("-gencode", "--generate-code", "-MD", "-MF", "-MT")):
            skip = (not skip) and word in ("-gencode", "-MF", "-MT")
            continue
        kept.append(word)
    with tempfile.TemporaryDirectory() as scratch:
        to = pathlib.Path(scratch) / "kernel.ptx"
        subprocess.run(kept + ["-arch=compute_90", "-ptx", "-o", str(to)], cwd=folder, check=True, capture_output=True)
        ptx = to.read_text()
    if ".entry" not in ptx:
        raise AssertionError(f"no kernel in {' '.join(kept)}")
    return len(re.findall(r"\bfma\.rn(?:\.ftz)?\.f(?:32|64)\b", ptx))


class Rounding(unittest.TestCase):
    def test_products_are_rounded_before_they_are_added(self):
        commands = {pathlib.Path(entry["file"]).stem: (entry["command"], entry["directory"])
                    for entry in json.loads(pathlib.Path(os.environ["COMPILE_COMMANDS"]).read_text())
                    if "/runtime/cuda/ops/" in entry["file"] and entry["file"].endswith(".cu")
                    and "nvcc" in shlex.split(entry["command"])[0]}
        contracted = 0
        for kernel in KERNELS:
            command, folder = commands[kernel]
            with self.subTest(kernel):
                self.assertEqual(fused(command, folder), 0)
            contracted += fused(command.replace("--fmad=false", "--fmad=true"), folder)
        self.assertGreater(contracted, 0, "left to itself nvcc contracts: this test could fail")


if __name__ == "__main__":
    unittest.main()
