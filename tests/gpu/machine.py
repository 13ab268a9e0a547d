"""The machine and the build under test: where the programs are, which libraries they need, how they are started."""

import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from children import Failed, require, run_child

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEVICE_LIBRARY, EMULATED_LIBRARY = "libcarillon_cuda.so", "libcarillon_cuda_emulated.so"
FUSED_LIBRARY, EMULATED_FUSED_LIBRARY = "libcarillon_cudnn.so", "libcarillon_cudnn_emulated.so"

# Peak FLOP/s of dense products from the vendors' data sheets, as reference for the report's bars: bfloat16, and float32
# and float64 without tensor cores. The first name that is part of the device's name applies.
PEAKS = [("H100 PCIe", {"bfloat16": 756e12, "float32": 51e12, "float64": 26e12}),
         ("H100", {"bfloat16": 989.4e12, "float32": 67e12, "float64": 34e12}),
         ("H200", {"bfloat16": 989.4e12, "float32": 67e12, "float64": 34e12}),
         ("A100", {"bfloat16": 312e12, "float32": 19.5e12, "float64": 9.7e12}),
         ("B200", {"bfloat16": 2250e12, "float32": 80e12, "float64": 40e12})]
# The built-in profile for the plan; the device's own memory replaces that of the profile.
PROFILES = [("A100", "a100"), ("B200", "b200"), ("", "h100-sxm")]


def by_name(table, name):
    return next((value for part, value in table if part in name), None)


class Machine:
    def __init__(self, build, rehearsal):
        self.build, self.rehearsal = pathlib.Path(build).resolve(), rehearsal
        self.carillon = self.build / "carillon"
        self.library = self.build / (EMULATED_LIBRARY if rehearsal else DEVICE_LIBRARY)
        self.fused_library = self.build / (EMULATED_FUSED_LIBRARY if rehearsal else FUSED_LIBRARY)
        self.here = HERE
        self.device, self.capability, self.memory_bytes, self.devices = "", "", 0, 0
        for file in (self.carillon, self.library):
            if not file.exists():
                raise SystemExit(f"{file} is not there: build it or name the folder with --build (tests/gpu/README.md)")
        self.environment = {**os.environ, "CARILLON_CUDA_LIBRARY": str(self.library)}
        if self.fused_library.exists():
            self.environment["CARILLON_CUDNN_LIBRARY"] = str(self.fused_library)
        # A bundled build carries its shared libraries in `lib`, where its programs look for them (bundle.sh). NVIDIA's
        # libraries come from the machine's Python packages, whose folders hold nothing else; LD_LIBRARY_PATH names
        # them.
        self.search = []
        if (self.build / "lib").is_dir():
            self.unshadow()
        self.set_search()
        if rehearsal:
            self.environment["PATH"] = f"{HERE / 'stand_ins'}:{os.environ['PATH']}"

    def set_search(self):
        given = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
        if self.search or given:
            self.environment["LD_LIBRARY_PATH"] = ":".join(self.search + given)

    # ---- the libraries that the device's library needs

    def find_libraries(self):
        """Finds the libraries that the CUDA and cuDNN libraries need. Raises Failed with the names that the CUDA
        library lacks. Returns (folders added to the search path, names that the cuDNN library lacks)."""
        added = []
        libraries = [self.library] + ([self.fused_library] if self.fused_library.exists() else [])
        for name in [name for library in libraries for name in self.missing_libraries(library)]:
            folder = next((path for path in library_folders() if os.path.exists(f"{path}/{name}")), None)
            if folder is not None and folder not in self.search:
                self.search.append(folder)
                added.append(folder)
        self.set_search()
        missing = self.missing_libraries(self.library)
        if missing:
            raise Failed(f"{self.library.name} does not find {', '.join(missing)}: install the CUDA toolkit's cuBLAS "
                         "and NCCL, or name their folders in LD_LIBRARY_PATH")
        return added, (self.missing_libraries(self.fused_library) if self.fused_library.exists()
                       else [f"{self.fused_library.name}, which is not built"])

    def missing_libraries(self, program, environment=None):
        text = run_child(["ldd", program], environment or self.environment, 30).text()
        return re.findall(r"^\s*(\S+) => not found", text, re.MULTILINE) + re.findall(r"version `(\S+)' not found", text)

    def unshadow(self):
        """Moves aside the bundled libraries that this machine also has, because its own match its driver and each
        other. Moves all of them back if one of the machine's is too old for the programs."""
        carried, aside = self.build / "lib", self.build / "lib.aside"
        listed = {line.split()[0] for line in run_child([shutil.which("ldconfig") or "/sbin/ldconfig", "-p"], None,
                                                        30).output.splitlines() if "=>" in line}
        moved = [file.name for file in sorted(carried.iterdir()) if file.name in listed]
        aside.mkdir(exist_ok=True)
        for name in moved:
            (carried / name).rename(aside / name)
        if moved and self.missing_libraries(self.carillon):
            for name in moved:
                (aside / name).rename(carried / name)

    def python_with_torch(self):
        """A Python that has PyTorch, preferably the current one; None if there is none."""
        given = os.environ.get("CARILLON_PEER_PYTHON")
        candidates = [given] if given else [sys.executable, "python3", *sorted(glob.glob("/opt/*/.venv/bin/python3")),
                                            *sorted(glob.glob("/opt/*/bin/python3")), "/usr/local/bin/python3"]
        for python in candidates:
            found = shutil.which(python)
            if found and run_child([found, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"],
                                   self.plain_environment(), 30).code == 0:
                return found
        return None

    def plain_environment(self):
        """The environment this script was started with, for programs that are not Carillon's."""
        return dict(os.environ)

    def nccl_version(self, info):
        """NCCL's version according to `carillon info`, as (2, 28); (0, 0) without NCCL."""
        text = json.dumps(info)
        found = re.search(r'"NCCL"\s*[:,]\s*"(\d+)\.(\d+)', text)
        return (int(found.group(1)), int(found.group(2))) if found else (0, 0)

    # ---- children

    def call(self, *arguments, seconds, device=True, **environment):
        """Runs `carillon ARGUMENTS`; raises Failed unless it exits with 0."""
        return require([self.carillon, *arguments], self.with_values(device, environment), seconds)

    def with_values(self, device=True, values=None):
        """The environment of a child. A child that uses no device gets all cores of the processor."""
        result = {**self.environment, **(values or {})}
        if not device:
            result.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
        return result

    def tool(self, name):
        """The path of a tool of the toolkit or the driver, or None."""
        places = [self.environment["PATH"], "/usr/local/cuda/bin", "/usr/local/nvidia/bin",
                  *glob.glob("/usr/local/cuda*/compute-sanitizer"), *glob.glob("/opt/nvidia/nsight-compute/*")]
        return shutil.which(name, path=":".join(places))

    def used_memory(self):
        """Bytes in use on device 0 according to nvidia-smi; None if it does not say."""
        tool = self.tool("nvidia-smi")
        if tool is None:
            return None
        text = run_child([tool, "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], self.environment,
                         10).output.strip()
        return int(text) << 20 if text.isdigit() else None

    def read_devices(self, info):
        """Reads the devices from `carillon info --json`. A device is an object or, in older versions, a line such as
        "NVIDIA H100 80GB HBM3, compute capability 9.0, 81079 MiB"."""
        devices = info["cuda"]["devices"]
        if not devices or info["cuda"].get("problem"):
            raise Failed(f"no device: {info['cuda'].get('problem', 'none is counted')}")
        self.devices, first = len(devices), devices[0]
        if isinstance(first, dict):
            self.device, self.capability = first["name"], first["compute_capability"]
            self.memory_bytes = first["memory_bytes"]
            return
        found = re.fullmatch(r"(.*), compute capability (\S+), (\d+) MiB", first)
        if found is None:
            raise Failed(f"carillon info does not say how much memory the device has: {first}")
        self.device, self.capability, self.memory_bytes = found.group(1), found.group(2), int(found.group(3)) << 20

    def peaks(self):
        return {} if self.rehearsal else by_name(PEAKS, self.device) or {}

    def profile(self):
        return by_name(PROFILES, self.device)


def library_folders():
    """Folders that may hold cuBLASLt, cuDNN and NCCL: toolkits, and the packages of a Python that has PyTorch."""
    roots = [os.environ.get("CUDA_HOME", "/usr/local/cuda"), *sorted(glob.glob("/usr/local/cuda-*"), reverse=True)]
    yield from (folder for root in roots for folder in (f"{root}/lib64", f"{root}/targets/x86_64-linux/lib"))
    yield from ("/usr/lib/x86_64-linux-gnu", "/usr/local/nvidia/lib64")
    sites = [path for path in sys.path if path.endswith("-packages")]
    sites += glob.glob("/opt/*/.venv/lib/python3*/site-packages")
    for site in sites:
        yield from sorted(glob.glob(f"{site}/nvidia/*/lib"))


def host_memory():
    """Bytes of host memory that this process's control group may use."""
    total = int(re.search(r"MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text()).group(1)) * 1024
    try:
        limit = pathlib.Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def commit(build):
    """The commit of the source: the checkout's, or the one that bundle.sh stored with a bundled build."""
    carried = build / "commit"
    if carried.exists():
        return carried.read_text().strip()
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT,
                          check=False)
    return done.stdout.strip() or "unknown"
