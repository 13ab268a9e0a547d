"""Checks that nvcc rounds products before adding to them in the kernels whose results must be reproducible bit for bit
(runtime/cuda/sources.cmake): their PTX contains no contracted fma. Functions such as division contain fma of their own,
the same everywhere; the kernels tested here call none of them."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

# These kernels call no library function that contains an fma.
KERNELS = ["adamw", "rotate", "embedding", "row_scale"]


def fused(command, folder):
    """The number of contracted operations in the PTX of a compile command."""
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
