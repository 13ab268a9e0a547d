"""Checks with g++ that every header compiles alone.

    header_self_contained.py COMPILER SOURCE FLAG …

Compiling each header alone takes seven minutes of one core, nearly all of it for the headers that it includes. Three
shortcuts reduce this to one minute without missing an error:

* If X.cpp includes X.h first and is built without precompiled headers (only in runtime and parallel), the build has
  already shown that X.h is self-contained, and X.h is skipped.
* If X.cpp includes X.h first in the other folders, whose precompiled headers all belong to other projects, the build
  has shown that X.h includes enough for the templates that it uses. Here X.h is only parsed, to check that everything
  it uses from those projects is declared. An error planted after its last line stops the compiler before it works on
  the bodies of templates.
* The other headers use precompiled headers. This changes nothing, because everything precompiled for X.h is also
  included by X.h, directly or through others. The text of X.h follows its includes, so it sees the same declarations as
  alone; the headers in between are checked themselves. Includes under a condition, or after the first line of code, do
  not count here."""

import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDERS = ("runtime", "parallel", "model", "data", "launch", "tests")
# Groups of headers to precompile, the costliest first. A header is compiled with the first group that it includes
# entirely.
BASES = [("launch/config/run_config.h",), ("model/config.h",), ("parallel/transport/communicator.h",), ("data/chat/value.h",),
         ("runtime/error.h",), ("functional", "string", "vector"), ("string", "vector")]
END = "the end of the header"


def headers():
    """The headers to check. Excluded are those of the CPU kernels, which compile only in the files that set their
    macros, and tensor_core.h, which is for nvcc and has a counterpart in the emulation."""
    for folder in FOLDERS:
        for path in sorted(pathlib.Path(folder).rglob("*.h")):
            if not path.is_relative_to("runtime/cpu/kernels") and str(path) != "runtime/cuda/ops/tensor_core.h":
                yield str(path)


def includes(path):
    """The headers that `path` includes unconditionally, before its first line of code."""
    found, depth = [], 0
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if re.match(r"#\s*if", line):
            depth += 1
        elif re.match(r"#\s*endif", line):
            depth -= 1
        elif include := re.match(r'#\s*include\s+[<"]([^>"]+)[>"]', line):
            if depth == 0:
                found.append(include[1])
        elif line and not line.startswith(("#", "//")):
            break
    return found


def closure(path, known):
    """All headers that `path` includes, directly or indirectly."""
    if path not in known:
        known[path] = set()
        for name in includes(path):
            known[path].add(name)
            if os.path.exists(name):
                known[path] |= closure(name, known)
    return known[path]


def includes_first(header):
    """Whether X.cpp includes this X.h before all other headers."""
    source = pathlib.Path(header).with_suffix(".cpp")
    return source.exists() and includes(source)[:1] == [header]


def main():
    compiler, source, *flags = sys.argv[1:]
    os.chdir(source)
    command = [compiler, "-std=c++20", *flags, "-Itests/cuda_emulation/include", "-I."]
    known, behind, shown = {}, collections.defaultdict(list), 0
    for header in headers():
        if header.startswith(("runtime/", "parallel/")) and includes_first(header):
            shown += 1
            continue
        reached = closure(header, known)
        behind[next((base for base in BASES if reached.issuperset(base)), ())].append(header)
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        end, nothing = pathlib.Path(folder) / "end.cpp", pathlib.Path(folder) / "nothing.cpp"
        end.write_text(f'static_assert(false, "{END}");\n')
        nothing.write_text("")

        def precompiled(number, base):
            """Precompiles a group; returns the flags to use it."""
            if not base:
                return []
            text = pathlib.Path(folder) / f"{number}.h"
            text.write_text("".join(f'#include "{name}"\n' for name in base))
            subprocess.run([*command, "-x", "c++-header", str(text), "-o", f"{text}.gch"], check=True)
            return ["-Winvalid-pch", "-Werror", "-include", str(text)]

        def wrong(header, before):
            """The error message for a header, or ""."""
            parsed = includes_first(header)
            done = subprocess.run([*command, "-fsyntax-only", "-Wfatal-errors", *before, "-include", header, "-x", "c++",
                                   str(end if parsed else nothing)], capture_output=True, text=True)
            first = next((line for line in done.stderr.splitlines() if "error:" in line), "")
            good = first.endswith(f"static assertion failed: {END}") if parsed else done.returncode == 0
            return "" if good else f"not self-contained: {header}\n{done.stderr}"

        bases = {base: pool.submit(precompiled, number, base) for number, base in enumerate(behind)}
        jobs = [pool.submit(wrong, header, bases[base].result()) for base, group in behind.items() for header in group]
        texts = [text for job in jobs if (text := job.result())]
    if texts:
        sys.exit("".join(texts))
    print(f"{len(jobs)} headers compile alone, {shown} more are the first that their source includes")


if __name__ == "__main__":
    main()
