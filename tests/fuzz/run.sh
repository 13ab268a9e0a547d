#!/usr/bin/env bash
# Runs fuzz targets (README.md) for SECONDS each, starting from the repository's inputs and those found by earlier runs:
#   tests/fuzz/run.sh [SECONDS] [TARGET…]      default: 60 seconds, all targets
# Runs JOBS=2 targets at a time. Builds into build-fuzz first, unless FUZZ_BUILD names a finished build. Inputs that
# break a target are written to build-fuzz/findings/TARGET. Exits with 1 if any was found.
set -uo pipefail
cd "$(dirname "$0")/../.."
source=$PWD
seconds=${1:-60}
shift || true
build=${FUZZ_BUILD:-build-fuzz}
if [ -z "${FUZZ_BUILD:-}" ]; then
  bash cmake/install_dependencies.sh fuzz || exit
  cmake --preset fuzz >/dev/null && cmake --build --preset fuzz || exit
fi
export CARILLON_SOURCE=$source
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=0:quarantine_size_mb=16:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}

one() {
  local program=$1 target=$2
  local corpus=$build/corpus/$target findings=$build/findings/$target
  mkdir -p "$corpus" "$findings"
  export CARILLON_FUZZ_TARGET=$target
  TMPDIR=$(mktemp -d); export TMPDIR
  CARILLON_FUZZ_SEEDS=$corpus "$program" || return
  local known=tests/fuzz/regressions/$target
  "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=16384 \
    -print_final_stats=1 -use_value_profile=1 -artifact_prefix="$findings/" "$corpus" $([ -d "$known" ] && echo "$known") \
    >"$build/log.$target" 2>&1
  local code=$?
  rm -rf "$TMPDIR"
  awk -v target="$target" -v code=$code '/stat::number_of_executed_units/ {runs = $2} /DONE|cov:/ {for (i = 1; i < NF; ++i)
    if ($i == "cov:") cov = $(i + 1)} END {print target ": " runs " runs, " cov " edges" (code == 0 ? "" : ", BROKEN: exit code " code)}' \
    "$build/log.$target"
  return $code
}

failed=0
running=0
for name in data launch; do
  program=$build/tests/fuzz/fuzz_$name
  [ -x "$program" ] || continue
  for target in $(CARILLON_FUZZ_LIST=1 "$program" | tr '\n' ' '); do
    [ $# = 0 ] || [[ " $* " == *" $target "* ]] || continue
    if [ $running -ge "${JOBS:-2}" ]; then
      wait -n || failed=1
      running=$((running - 1))
    fi
    one "$program" "$target" &
    running=$((running + 1))
  done
done
while [ $running -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit $failed
