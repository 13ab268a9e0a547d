#!/usr/bin/env bash
# Packs the parts of a build that tests/gpu/run.sh needs into one archive, for a machine that has a GPU but none of our
# libraries: program, CUDA and cuDNN libraries, test programs (all stripped), and the shared libraries they need, except
# glibc, the driver and NVIDIA's libraries (cuBLAS, cuDNN, NCCL), which run.sh finds on that machine. All find the
# bundled libraries relative to themselves ($ORIGIN), so no variable has to be set and no other program loads them. Uses
# gzip because xz may be missing there. Needs patchelf.
#   bash tests/gpu/bundle.sh [BUILD] [OUT.tar.gz]
# On the other machine: mkdir FOLDER && tar xf OUT.tar.gz -C FOLDER && bash tests/gpu/run.sh --build FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build}
out=${2:-$root/runs/gpu/bundle.tar.gz}
command -v patchelf >/dev/null || { echo "patchelf is missing: install it (cmake/install_dependencies.sh tests)" >&2; exit 1; }
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/lib" "$(dirname "$out")"

programs=(carillon libcarillon_cuda.so)
if [ -e "$build/libcarillon_cudnn.so" ]; then programs+=(libcarillon_cudnn.so); else
  echo "libcarillon_cudnn.so is not built: left out, and with it every figure of cuDNN's attention" >&2
fi
while read -r path; do
  [ -e "$build/tests/$path" ] || { echo "tests/$path is not built: left out" >&2; continue; }
  programs+=("tests/$path")
done < <(python3 -c "
import sys; sys.path.insert(0, '$root/tests/gpu'); sys.dont_write_bytecode = True
from sizes import DEVICE, NCCL_SHARED_TESTS
binaries = [*DEVICE.tests, *DEVICE.shared_tests, *NCCL_SHARED_TESTS]
print('\n'.join(dict.fromkeys([binary.path for binary in binaries] + [path for path, _ in DEVICE.sanitized] +
                               [path for _, path, _ in DEVICE.profiled])))")
for program in "${programs[@]}"; do
  mkdir -p "$stage/$(dirname "$program")"
  strip -o "$stage/$program" "$build/$program"
  above=$(dirname "$program" | sed 's|[^/.]\+|..|g')  # "." for a program in the top folder
  patchelf --force-rpath --set-rpath "\$ORIGIN/$above/lib" "$stage/$program"
done
(cd "$build" && ldd "${programs[@]}") | awk '/=> \//{print $3}' | sort -u |
  grep -v -E '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util)\.so[^/]*|libcarillon[^/]*|lib(cuda|cublas|cudnn|nccl|nvrtc|nvJitLink)[^/]*)$' |
  while read -r library; do
    cp -L "$library" "$stage/lib/"
    patchelf --force-rpath --set-rpath '$ORIGIN' "$stage/lib/$(basename "$library")"
  done
git -C "$root" describe --always --dirty > "$stage/commit" 2>/dev/null || echo unknown > "$stage/commit"
tar -C "$stage" -c . | gzip -9 > "$out"
du -sh "$stage" | awk '{print $1 " unpacked"}'
ls -l "$out" | awk '{printf "%.1f MiB: %s\n", $5 / 1048576, $9}'
# At most 64 MiB can be copied to a borrowed machine.
[ "$(stat -c %s "$out")" -le $((64 << 20)) ] || { echo "more than 64 MiB: too large to be carried" >&2; exit 1; }
