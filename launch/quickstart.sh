#!/usr/bin/env bash
# From a fresh Debian 12 to a trained long-context model: installs what is missing, builds, trains on two ranks with
# ring attention, kills the run halfway and resumes it, and scores sequences four times as long as the trained ones.
# Then trains briefly with four rotations and ends with a sweep and a report. runs/quickstart is removed at the start.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1   # needed by root only
export OMP_NUM_THREADS=1                                           # two ranks, one thread each
say() { printf '\n== %s\n' "$*"; }

say "install and build"
bash cmake/install_dependencies.sh
cmake --preset release -DCARILLON_TESTS=OFF -DCARILLON_BENCHMARKS=OFF >/dev/null
cmake --build --preset release --target carillon
carillon=build/carillon
run=runs/quickstart
rm -rf "$run" && mkdir -p "$run"

say "data: PosGen, 64 tokens to train on, 256 to test on"
$carillon posgen $run/train.jsonl task=recursive length=64 count=10000 seed=1
$carillon posgen $run/test.jsonl task=recursive split=test length=256 count=20 seed=1

say "train on two ranks, and kill one of them"
mpirun -n 2 --oversubscribe $carillon train launch/configs/posgen_quickstart.yaml & job=$!
steps() { [ -f $run/run/metrics.jsonl ] && wc -l <$run/run/metrics.jsonl || echo 0; }
while kill -0 $job 2>/dev/null && [ "$(steps)" -lt 250 ]; do sleep 0.2; done
pkill -9 -P $job || true
wait $job || echo "killed, exit code $?"

say "the same command again resumes"
mpirun -n 2 --oversubscribe $carillon train launch/configs/posgen_quickstart.yaml

say "score on one rank"
$carillon score model=$run/run input=$run/test.jsonl output=$run/scores.jsonl
awk '{ if (match($0, /"loss":[ ]*[0-9.eE+-]+/)) { split(substr($0, RSTART, RLENGTH), a, ":"); sum += a[2]; n++ } }
     END { printf "mean loss on %d sequences of 256 tokens: %.4f nats per token (guessing: %.4f)\n", n, sum / n, log(17) }' $run/scores.jsonl

say "RoPE, Resonance RoPE, YaRN, Resonance YaRN on PosGen's semi-recursive task (a short training of one seed each, too
     little to rank them: launch/configs/paper/README.md)"
SEEDS=${SEEDS:-1} STEPS=400 COURSE=0 COUNT=100 TASKS=semi_recursive OUT=$run/posgen bash launch/reproduce_posgen.sh

say "a sweep: the four models at one to four times the training length"
mpirun -n 2 --oversubscribe $carillon sweep launch/configs/sweep_posgen.yaml --quiet
echo "the same as a page: $run/sweep/report.html"
