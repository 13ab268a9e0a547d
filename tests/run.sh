#!/usr/bin/env bash
# Installs missing packages, builds, and runs the tests. The second of the README's two commands.
#   bash tests/run.sh             all tests except those labelled `long`
#   LONG=1 bash tests/run.sh      all tests
set -euo pipefail
cd "$(dirname "$0")/.."
bash cmake/install_dependencies.sh tests
cmake --preset release -DCARILLON_TEST_PYTHON="$PWD/.venv/bin/python"
cmake --build --preset release
exclude=(-LE long)
[ "${LONG:-0}" = 1 ] && exclude=()
# Three tests on two cores, because many wait for most of their time.
ctest --test-dir build --output-on-failure -j $((($(nproc) * 3 + 1) / 2)) "${exclude[@]}"
