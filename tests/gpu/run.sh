#!/usr/bin/env bash
# Everything to be known about Carillon on this machine's GPU, in under nine minutes; see README.md beside this file.
#   bash tests/gpu/run.sh [--build FOLDER] [--output FOLDER] [--budget SECONDS] [--only PART,…] [--rehearse]
set -euo pipefail
export PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" "$@"
