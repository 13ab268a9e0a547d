#!/usr/bin/env bash
# The scoreboard: injects faults into the built program and prints which it survived (README.md).
#   CARILLON=build/carillon FAULTS=build/tests/reliability/libfault_calls.so bash tests/reliability/run.sh [--long] [disks] [ranks] [ROW …]
# Both variables default to the build folder of this checkout. Without --long: under three minutes on two idle cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CARILLON=${CARILLON:-$here/../../build/carillon} FAULTS=${FAULTS:-$here/../../build/tests/reliability/libfault_calls.so}
CARILLON=$(readlink -f "$CARILLON") FAULTS=$(readlink -f "$FAULTS")
export MPI_FAULTS=${MPI_FAULTS:-$(dirname "$FAULTS")/librank_calls.so}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec "${PYTHON:-python3}" "$here/scoreboard.py" "$@"
