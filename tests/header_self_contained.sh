#!/usr/bin/env bash
# Every header compiles alone. Usage: header_self_contained.sh COMPILER SOURCE "FLAGS"
# Where X.cpp includes X.h first and is built without precompiled headers, which only runtime and parallel are, the build
# has shown it for X.h already. The rest is compiled here.
set -uo pipefail
compiler=$1 source=$2 flags=$3
cd "$source"
shown_by_build() {
  case $1 in runtime/* | parallel/*) ;; *) return 1 ;; esac
  [ -f "${1%.h}.cpp" ] && [ "$(grep -m1 '^#include' "${1%.h}.cpp")" = "#include \"$1\"" ]
}
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
shown=0
# What the CPU kernels are made of is no header of its own: it is compiled by the files that set its macros. Of
# tensor_core.h, which is for nvcc, the emulation has a twin.
while read -r header; do
  if shown_by_build "$header"; then shown=$((shown + 1)); else printf '%s\n' "$header" >>"$headers"; fi
done < <(find runtime parallel model data launch tests -name '*.h' ! -path 'runtime/cpu/kernels/*' \
  ! -path runtime/cuda/ops/tensor_core.h | sort)
check() { printf '#include "%s"\n' "$1" | $compiler -std=c++20 -fsyntax-only -x c++ $flags -I tests/cuda_emulation/include -I. - || echo "not self-contained: $1"; }
export -f check; export compiler flags
output=$(xargs -a "$headers" -P 2 -I{} bash -c 'check {}' 2>&1)
if [ -n "$output" ]; then printf '%s\n' "$output"; exit 1; fi
echo "$(wc -l <"$headers") headers compile alone, $shown more are the first that their source includes"
