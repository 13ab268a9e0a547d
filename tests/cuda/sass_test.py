"""Checks the machine code of attention's tensor-core kernels on a machine without a GPU: registers and spills as
reported by ptxas, blocks per multiprocessor, and the instructions of the loop over tiles, for every GPU generation that
the library is built for. Asserts bounds, and compares the table with runtime/cuda/README.md. For memory-bound kernels
it checks the width of loads.

    NVCC=nvcc python tests/cuda/sass_test.py            runs the test
    NVCC=nvcc python tests/cuda/sass_test.py --write    writes the table into the README

Needs nvcc and nvdisasm (from the toolkit or PyPI's nvidia-cuda-nvdisasm); without them it is skipped (exit code 77)."""

import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
README = SOURCE / "runtime/cuda/README.md"
BEGIN, END = "<!-- sass_test.py: begin -->\n", "<!-- sass_test.py: end -->\n"
# Shared memory per multiprocessor; a block takes 1 KiB more than it requests (CUDA C++ Programming Guide, compute
# capabilities).
ARCHITECTURES = {"sm_80": 164 * 1024, "sm_90": 228 * 1024, "sm_100": 228 * 1024}
THREADS, ROWS, WIDTHS = 128, 64, (64, 96, 128)

# Names in the sources; products per tile; columns of a tile (rows of the other side) as a function of the head size;
# exponentials per lane as a function of its scores; barriers.
Kernel = collections.namedtuple("Kernel", "name file shared products columns exponentials barriers")
KERNELS = [
    # Products: scores, output. Exponentials: one per score and one per row for its old maximum (two rows). Tiles: keys,
    # values.
    Kernel("forward_kernel", "attention_forward", "ForwardShared", 2, lambda w: 64, lambda n: n + 2, 1),
    # Products: scores, dv, dout·v, dk. Tiles: queries, dout.
    Kernel("keys_kernel", "attention_backward", "KeysShared", 4, lambda w: 64 if w == 64 else 32, lambda n: n, 1),
    # Products: dout·v, scores, dq. Tiles: keys, values.
    Kernel("queries_kernel", "attention_backward", "QueriesShared", 3, lambda w: 64, lambda n: n, 2),
]

# Memory-bound kernels, whose variant for aligned rows loads 16 bytes at a time. One generation is enough to test.
MEMORY_BOUND = {
    "adamw": {"adamw"}, "attention_state": {"delta", "finish"}, "cross_entropy": {"gradient", "maximum", "sums"},
    "elementwise": {"add", "copy", "scale", "sum"}, "embedding": {"gather", "scatter"},
    "rmsnorm": {"backward", "forward"}, "rotate": {"rotate"}, "sums": {"add_bias", "bias", "squares"},
    "swiglu": {"backward", "forward"},
}


def nvcc():
    return os.environ.get("NVCC") or shutil.which("nvcc") or ""


def nvdisasm(folder):
    """The toolkit's nvdisasm, or an executable copy of the wheel's, whose files are not executable."""
    beside = pathlib.Path(nvcc()).resolve().parent / "nvdisasm" if nvcc() else None
    if beside and beside.exists():
        return str(beside)
    for place in pathlib.Path(sysconfig.get_paths()["purelib"]).glob("nvidia/**/bin/nvdisasm"):
        copy = pathlib.Path(folder) / "nvdisasm"
        shutil.copy(place, copy)
        copy.chmod(0o755)
        return str(copy)
    return shutil.which("nvdisasm") or ""


def source_of(name):
    """runtime/cuda/attention/NAME.cu or runtime/cuda/ops/NAME.cu"""
    return next((SOURCE / "runtime/cuda").glob(f"*/{name}.cu"))


def compile_one(folder, disassembler, name, architecture):
    """Compiles one file for one generation; returns the report of ptxas and the disassembly."""
    cubin = pathlib.Path(folder) / f"{name}.{architecture}.cubin"
    flags = (os.environ.get("NVCCFLAGS") or "-O3").split()
    done = subprocess.run([nvcc(), "-std=c++20", *flags, f"-I{SOURCE}", "-Xptxas", "-v", f"-arch={architecture}",
                           "-cubin", str(source_of(name)), "-o", str(cubin)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    sass = subprocess.run([disassembler, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
    return done.stderr, sass


def resources(report):
    """{(kernel, width): (registers, bytes of spill stores and loads)}"""
    found, key = {}, None
    for line in report.splitlines():
        if entry := re.search(r"Compiling entry function '\S*?([a-z]+_kernel)ILi(\d+)E", line):
            key = entry[1], int(entry[2])
        elif spills := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spilled = int(spills[1]) + int(spills[2])
        elif used := re.search(r"Used (\d+) registers", line):
            found[key] = int(used[1]), spilled
    return found


def main_loops(sass):
    """{(kernel, width): full names of the instructions in the longest loop with tensor-core instructions}"""
    found = {}
    for text in re.split(r"^\.text\.", sass, flags=re.M)[1:]:
        entry = re.match(r"\S*?([a-z]+_kernel)ILi(\d+)E\S*:", text)
        if not entry:
            continue
        labels, instructions, longest = {}, [], []
        for line in text.splitlines():
            if label := re.match(r"(\.L_x_\d+):", line):
                labels[label[1]] = len(instructions)
            elif code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*)", line):
                instructions.append(code[1])
                target = re.search(r"\((\.L_x_\d+)\)", code[2]) if code[1].startswith("BRA") else None
                if target and target[1] in labels:
                    body = instructions[labels[target[1]]:]
                    if any(name.startswith("HMMA") for name in body) and len(body) > len(longest):
                        longest = body
        found[entry[1], int(entry[2])] = longest
    return found


def count(loop, *prefixes):
    return sum(name.startswith(prefixes) for name in loop)


class Sass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.disassembler = nvdisasm(cls.folder.name)
        cls.resources, cls.loops = {}, {}
        jobs = [(name, architecture) for name in ("attention_forward", "attention_backward")
                for architecture in ARCHITECTURES]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = pool.map(lambda job: compile_one(cls.folder.name, cls.disassembler, *job), jobs)
            for (_, architecture), (report, sass) in zip(jobs, results):
                cls.resources.update({(architecture, *key): value for key, value in resources(report).items()})
                cls.loops.update({(architecture, *key): value for key, value in main_loops(sass).items()})
        cls.shared = {}
        for kernel in KERNELS:
            text = source_of(kernel.file).read_text()
            for width, size in re.findall(rf"static_assert\({kernel.shared}<(\d+)>::kBytes == (\d+)\);", text):
                cls.shared[kernel.name, int(width)] = int(size)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def each(self, check):
        """Calls check(kernel, width, architecture, key of the figures) for every combination, each in a subtest."""
        for kernel in KERNELS:
            for width in WIDTHS:
                for architecture in ARCHITECTURES:
                    with self.subTest(kernel=kernel.name, width=width, architecture=architecture):
                        check(kernel, width, architecture, (architecture, kernel.name, width))

    def resident(self, kernel, width, architecture):
        """Blocks per multiprocessor. Registers are allocated in units of 256 per warp, which is 8 per thread."""
        registers = (self.resources[architecture, kernel.name, width][0] + 7) // 8 * 8
        return min(65536 // (registers * THREADS), ARCHITECTURES[architecture] // (self.shared[kernel.name, width] + 1024))

    def test_spills(self):
        def check(kernel, _width, _architecture, key):
            self.assertLessEqual(self.resources[key][1], 0 if kernel.name == "forward_kernel" else 16)
            self.assertEqual(count(self.loops[key], "LDL", "STL"), 0, "local memory in the loop over tiles")
        self.each(check)

    def test_two_blocks_are_resident(self):
        self.each(lambda kernel, width, architecture, _key:
                  self.assertGreaterEqual(self.resident(kernel, width, architecture), 2))

    def test_products_run_on_tensor_cores(self):
        def check(kernel, width, _architecture, key):
            # Per warp: 16 rows x columns x width in a product, 16 x 8 x 16 in an instruction. Another count means a
            # wrong unroll.
            self.assertEqual(count(self.loops[key], "HMMA.16816.F32.BF16"),
                             kernel.products * 16 * kernel.columns(width) * width // (16 * 8 * 16))
        self.each(check)

    def test_fragments_and_copies(self):
        def check(kernel, width, _architecture, key):
            loop, columns = self.loops[key], kernel.columns(width)
            steps, others = width // 16, columns // 16
            own = 0 if kernel.name == "forward_kernel" else 2 * steps  # the forward kernel keeps its rows in registers
            self.assertEqual(count(loop, "LDSM.16.M88.4", "LDSM.16.MT88.4"), own + kernel.products * steps * others)
            # Both tiles of a step, in one code path for full tiles and one for the last tile; no copy is smaller than
            # 16 bytes.
            copies = 2 * 2 * columns * width * 2 // 16 // THREADS
            self.assertEqual(count(loop, "LDGSTS"), copies)
            self.assertEqual(sum("128" in name for name in loop if name.startswith("LDGSTS")), copies)
            # Other loads from global memory in the loop: only keys_kernel has them, for lse and delta of the next rows.
            self.assertLessEqual(count(loop, "LDG."), 2 if kernel.name == "keys_kernel" else 0)
            self.assertEqual(count(loop, "STG"), 0)
        self.each(check)

    def test_exponentials_and_barriers(self):
        def check(kernel, width, _architecture, key):
            exponentials = 16 * kernel.columns(width) // 32
            self.assertEqual(count(self.loops[key], "MUFU.EX2"), kernel.exponentials(exponentials))
            self.assertEqual(count(self.loops[key], "BAR.SYNC"), kernel.barriers)
        self.each(check)

    def test_memory_bound_kernels_read_16_bytes_at_once(self):
        for name, kernels in MEMORY_BOUND.items():
            with self.subTest(file=name):
                report, sass = compile_one(self.folder.name, self.disassembler, name, "sm_90")
                wide = {re.match(r"\S*?([a-z_]+)_kernel", text)[1] for text in re.split(r"^\.text\.", sass, flags=re.M)[1:]
                        if re.search(r"LDG\.E\S*\.128", text)}
                self.assertLessEqual(kernels, wide)
                self.assertEqual(set(re.findall(r"(\d+) bytes spill stores", report)), {"0"})

    def table(self):
        lines = [f"nvcc {compiler_version()}. Spills in bytes; shared memory in KiB; blocks a multiprocessor holds; "
                 "instructions of the loop over tiles, by warp and tile, both paths of each copy and the mask counted.\n",
                 "\n",
                 "| kernel, head size | arch | registers | spills | shared | blocks | all | HMMA | LDSM | LDGSTS.128 | "
                 "MUFU.EX2 | BAR |\n", "|---|---|---|---|---|---|---|---|---|---|---|---|\n"]
        for kernel in KERNELS:
            for width in WIDTHS:
                for architecture in ARCHITECTURES:
                    key = architecture, kernel.name, width
                    loop = self.loops[key]
                    registers, spills = self.resources[key]
                    cells = [f"{kernel.name.removesuffix('_kernel')} {width}", architecture, registers, spills,
                             f"{self.shared[kernel.name, width] / 1024:.1f}", self.resident(kernel, width, architecture),
                             len(loop), count(loop, "HMMA"), count(loop, "LDSM"), count(loop, "LDGSTS"),
                             count(loop, "MUFU.EX2"), count(loop, "BAR.SYNC")]
                    lines.append("| " + " | ".join(str(cell) for cell in cells) + " |\n")
        return "".join(lines)

    def test_readme_shows_the_table(self):
        table = self.table()
        print(table)
        text = README.read_text()
        before, rest = text.split(BEGIN)
        shown, after = rest.split(END)
        if WRITE:
            README.write_text(before + BEGIN + table + END + after)
        elif shown.startswith(f"nvcc {compiler_version()}."):
            self.assertEqual(shown, table, "run tests/cuda/sass_test.py --write")
        else:
            self.skipTest("the README's table is another compiler's")


def compiler_version():
    text = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V(\d+\.\d+\.\d+)", text)[1]


WRITE = "--write" in sys.argv
if __name__ == "__main__":
    if WRITE:
        sys.argv.remove("--write")
    with tempfile.TemporaryDirectory() as place:
        if not nvcc() or not nvdisasm(place):
            print("skipped: no nvcc, or no nvdisasm (pip install nvidia-cuda-nvdisasm)")
            sys.exit(77)
    unittest.main()
