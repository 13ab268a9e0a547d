#!/usr/bin/env bash
# Installs the Debian packages that Carillon needs. `tests` adds the Python packages of the foreign readers
# (tests/requirements.txt, into .venv); `slurm` adds Slurm, for the test that runs it; `style` adds clang-format and
# clang-tidy; `fuzz` adds clang with libFuzzer and its OpenMP, for tests/fuzz. Quick if everything is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(g++ cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-openmpi-dev libyaml-cpp-dev libdnnl-dev
  libopenblas-dev libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libxxhash-dev libonig-dev
  libsentencepiece-dev libutf8proc-dev zlib1g-dev libzstd-dev)
if [ "${1:-}" = tests ]; then
  packages+=(libgtest-dev libgmock-dev libbenchmark-dev python3 python3-venv hdf5-tools patchelf)
fi
if [ "${1:-}" = slurm ]; then packages+=(slurm-wlm slurm-wlm-basic-plugins); fi
if [ "${1:-}" = style ]; then packages+=(clang-format clang-tidy); fi
if [ "${1:-}" = fuzz ]; then packages+=(clang llvm libclang-rt-14-dev libomp-dev); fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then sudo=(); else sudo=(sudo); fi
  echo "installing: ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# The headers of cuDNN's C++ frontend are only on PyPI; the wheel's Python code and its dependencies are not needed.
frontend=nvidia-cudnn-frontend==1.32.0
nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null || true)
if [ "${1:-}" = tests ] && [ -n "$nvcc" ] && [ "$(cat .cudnn_frontend/version 2>/dev/null)" != "$frontend" ]; then
  echo "installing: the headers of $frontend into .cudnn_frontend"
  wheels=$(mktemp -d)
  if python3 -m venv "$wheels/venv" && "$wheels/venv/bin/pip" download -q --no-deps -d "$wheels" "$frontend" &&
    rm -rf .cudnn_frontend && python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wheel.extractall(".cudnn_frontend", [name for name in wheel.namelist() if name.startswith("include/")])' "$wheels"/*.whl
  then echo "$frontend" >.cudnn_frontend/version
  else echo "not installed: cuDNN's attention will not be built"
  fi
  rm -rf "$wheels"
fi
if [ "${1:-}" = tests ] && ! [ .venv/installed -nt tests/requirements.txt ]; then
  echo "installing: tests/requirements.txt into .venv"
  python3 -m venv .venv
  .venv/bin/pip install -q -r tests/requirements.txt
  touch .venv/installed
fi
