#!/usr/bin/env bash
# Installs what Carillon needs from Debian's packages, and with `tests` also the Python packages of the foreign readers
# (tests/requirements.txt, into .venv); with `slurm` also Slurm, for the test that runs it. Does nothing, fast, when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(g++ cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-openmpi-dev libyaml-cpp-dev libdnnl-dev
  libopenblas-dev libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libxxhash-dev libpcre2-dev
  libsentencepiece-dev libutf8proc-dev)
if [ "${1:-}" = tests ]; then
  packages+=(libgtest-dev libgmock-dev libbenchmark-dev python3 python3-venv hdf5-tools)
fi
if [ "${1:-}" = slurm ]; then packages+=(slurm-wlm slurm-wlm-basic-plugins); fi
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
if [ "${1:-}" = tests ] && ! [ .venv/installed -nt tests/requirements.txt ]; then
  echo "installing: tests/requirements.txt into .venv"
  python3 -m venv .venv
  .venv/bin/pip install -q -r tests/requirements.txt
  touch .venv/installed
fi
