"""Runs the same binaries without a CUDA toolkit: its folders are covered by empty ones in a separate mount namespace
(skipped if that is not allowed). The program trains on the CPU and answers runtime.device=cuda with one line. Black
box."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import black_box as bb

TOOLKITS = sorted({pathlib.Path(path).resolve() for path in os.environ["CUDA_TOOLKIT"].split(":") if path})


def hidden(*command):
    """Runs the command with the toolkit's folders hidden."""
    cover = " && ".join(f"mount -t tmpfs none '{path}'" for path in TOOLKITS if path.exists())
    return subprocess.run(["unshare", "--mount", "sh", "-c", f'{cover} && exec "$@"', "sh", *map(str, command)],
                          capture_output=True, text=True, timeout=120,
                          env={key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"})


class WithoutToolkit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if hidden("true").returncode != 0:
            sys.exit(77)
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.program = shutil.copy(bb.CARILLON, cls.folder)
        shutil.copy(os.environ["CARILLON_CUDA_REAL"], cls.folder)
        cls.config = bb.tiny_run(cls.folder)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def train(self, name, *keys):
        return hidden(self.program, "train", self.config, f"output={self.folder / name}", "train.max_steps=2", *keys)

    def test_the_toolkit_is_hidden(self):
        for path in TOOLKITS:
            self.assertEqual(hidden("ls", path).stdout, "")

    def test_it_trains_on_the_cpu(self):
        done = self.train("cpu", "runtime.device=cpu")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.train("auto", "runtime.device=auto")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_device_is_refused_in_one_line(self):
        for library in (True, False):
            if not library:
                os.remove(self.folder / "libcarillon_cuda.so")
            done = self.train("cuda", "runtime.device=cuda")
            self.assertEqual(done.returncode, 64, done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn("libcublasLt" if library else "libcarillon_cuda.so", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
