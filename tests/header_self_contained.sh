#!/usr/bin/env bash
# Every header compiles alone. Usage: header_self_contained.sh COMPILER SOURCE "FLAGS"
set -uo pipefail
compiler=$1 source=$2 flags=$3
cd "$source"
# What the CPU kernels are made of is no header of its own: it is compiled by the files that set its macros. Of
# tensor_core.h, which is for nvcc, the emulation has a twin.
find runtime parallel model data launch tests -name '*.h' ! -path 'runtime/cpu/kernels/*' \
  ! -path runtime/cuda/ops/tensor_core.h | sort >/tmp/headers.$$
check() { printf '#include "%s"\n' "$1" | $compiler -std=c++20 -fsyntax-only -x c++ $flags -I tests/cuda_emulation/include -I. - || echo "not self-contained: $1"; }
export -f check; export compiler flags
output=$(xargs -a /tmp/headers.$$ -P 2 -I{} bash -c 'check {}' 2>&1)
count=$(wc -l </tmp/headers.$$); rm -f /tmp/headers.$$
if [ -n "$output" ]; then printf '%s\n' "$output"; exit 1; fi
echo "$count headers compile alone"
