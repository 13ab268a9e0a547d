"""Every header compiles alone, with g++.

    header_self_contained.py COMPILER SOURCE FLAG …

Compiled as they stand, these headers cost seven minutes of one core, nearly all of it for what they include. Three things make
them a minute, and let nothing through:

* Where X.cpp includes X.h first and is built without precompiled headers, which only runtime and parallel are, the build
  has shown it for X.h already.
* Where X.cpp includes X.h first in the other folders, whose precompiled headers are all of other projects, the build has shown
  that X.h is enough for the templates that it uses. Here it is parsed: what a library's header declares must be there. An
  error behind its last line ends the compiler before it works on templates' bodies.
* The rest is precompiled, which changes nothing: what is precompiled for X.h, X.h includes itself, directly or through others.
  Its own text comes after its includes, and so sees what it would see alone; the headers between are checked on their own. A
  header of which that is not so (it includes under a condition, or after its first line of code) gets no credit for those
  includes."""

import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDERS = ("runtime", "parallel", "model", "data", "launch", "tests")
# Precompiled, the costliest first: a header is compiled behind the first of these whose members it includes all of.
BASES = [("launch/config/run_config.h",), ("model/config.h",), ("parallel/transport/communicator.h",), ("data/chat/value.h",),
         ("runtime/error.h",), ("functional", "string", "vector"), ("string", "vector")]
END = "the end of the header"


def headers():
    """What the CPU kernels are made of is no header of its own: it is compiled by the files that set its macros. Of
    tensor_core.h, which is for nvcc, the emulation has a twin."""
    for folder in FOLDERS:
        for path in sorted(pathlib.Path(folder).rglob("*.h")):
            if not path.is_relative_to("runtime/cpu/kernels") and str(path) != "runtime/cuda/ops/tensor_core.h":
                yield str(path)


def includes(path):
    """What `path` includes, whatever the compiler is told, before its first line of code."""
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
    """All that `path` includes, its own headers' includes too."""
    if path not in known:
        known[path] = set()
        for name in includes(path):
            known[path].add(name)
            if os.path.exists(name):
                known[path] |= closure(name, known)
    return known[path]


def includes_first(header):
    """Whether X.cpp includes this X.h before all else."""
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
            """The flags to use it with."""
            if not base:
                return []
            text = pathlib.Path(folder) / f"{number}.h"
            text.write_text("".join(f'#include "{name}"\n' for name in base))
            subprocess.run([*command, "-x", "c++-header", str(text), "-o", f"{text}.gch"], check=True)
            return ["-Winvalid-pch", "-Werror", "-include", str(text)]

        def wrong(header, before):
            """What is said of it, or nothing."""
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
