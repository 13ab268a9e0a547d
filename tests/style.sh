#!/usr/bin/env bash
# Checks that clang-format and clang-tidy of Debian 12 (version 14) find nothing. From the repository's root:
#   bash tests/style.sh format               every source is formatted according to .clang-format
#   bash tests/style.sh tidy BUILD [FILE…]   the checks of .clang-tidy; without files, on the files of the last commits
# Exits with 77 if the tool is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:?format or tidy}
if ! command -v "clang-$mode" >/dev/null; then
  echo "clang-$mode is not installed: bash cmake/install_dependencies.sh style"
  exit 77
fi
if [ "$mode" = format ]; then
  git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format --dry-run -Werror
  exit
fi
build=${2:?the build folder}
shift 2
database=$(mktemp -d)
trap 'rm -rf "$database"' EXIT
# clang cannot use g++'s precompiled headers.
sed -E 's/ -Winvalid-pch -include [^ ]+//' "$build/compile_commands.json" >"$database/compile_commands.json"
files=("$@")
if [ ${#files[@]} = 0 ]; then
  # All files would take half an hour on two cores, so only recent changes are checked.
  mapfile -t files < <(git log -30 --format= --name-only --diff-filter=d -- 'runtime/*.cpp' 'parallel/*.cpp' 'model/*.cpp' \
    'data/*.cpp' 'launch/*.cpp' ':!runtime/cuda' ':!parallel/transport/nccl_*' | sort -u | while read -r file; do
    [ -f "$file" ] && echo "$file"; done)
fi
echo "clang-tidy looks at ${#files[@]} files"
printf '%s\n' "${files[@]}" | xargs -r -P 2 -n 4 clang-tidy -p "$database" --quiet --extra-arg=-Wno-unknown-warning-option 2>/dev/null
