#!/usr/bin/env bash
# Packs what tests/gpu/run.sh needs of a build into one archive, for a machine that has a GPU but none of our libraries:
# program, CUDA library, test programs (stripped), and the shared libraries they stand on, without glibc, driver, cuBLAS
# and NCCL, which belong to that machine.
#   bash tests/gpu/bundle.sh [BUILD] [OUT.tar.xz]
# There: mkdir FOLDER && tar xf OUT.tar.xz -C FOLDER && bash tests/gpu/run.sh --build FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build}
out=${2:-$root/runs/gpu/bundle.tar.xz}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/lib" "$(dirname "$out")"

programs=(carillon libcarillon_cuda.so)
while read -r path; do
  [ -e "$build/tests/$path" ] || { echo "tests/$path is not built: left out" >&2; continue; }
  programs+=("tests/$path")
done < <(python3 -c "
import sys; sys.path.insert(0, '$root/tests/gpu')
import sizes
print('\n'.join(dict.fromkeys([binary.path for binary in sizes.DEVICE.tests] + [path for path, _ in sizes.DEVICE.sanitized])))")
for program in "${programs[@]}"; do
  mkdir -p "$stage/$(dirname "$program")"
  strip -o "$stage/$program" "$build/$program"
done
(cd "$build" && ldd "${programs[@]}") | awk '/=> \//{print $3}' | sort -u |
  grep -v -E '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util)\.so[^/]*|lib(cuda|cublas|nccl|nvrtc|nvJitLink)[^/]*)$' |
  while read -r library; do cp -L "$library" "$stage/lib/"; done
git -C "$root" describe --always --dirty > "$stage/commit" 2>/dev/null || echo unknown > "$stage/commit"
tar -C "$stage" -c . | xz -T0 -3 > "$out"
du -sh "$stage" | awk '{print $1 " unpacked"}'
ls -l "$out" | awk '{printf "%.1f MiB: %s\n", $5 / 1048576, $9}'
