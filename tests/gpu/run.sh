#!/usr/bin/env bash
# Tests and measures Carillon on this machine's GPU in under nine minutes; see README.md in this folder.
#   bash tests/gpu/run.sh [--build FOLDER] [--output FOLDER] [--budget SECONDS] [--only PART,…] [--rehearse]
set -euo pipefail
export PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" "$@"
