#!/usr/bin/env bash
# The experiment of Resonance RoPE (Wang et al., 2403.00071, section 6.1), scaled to two cores: three PosGen subtasks × {RoPE,
# Resonance, YaRN, Resonance YaRN} × seeds, trained at 64 tokens, accuracy in and out of distribution up to 256. A model of 2
# layers and width 128 in place of the paper's; its table stands beside ours in the README.
#   SEEDS=3 STEPS=400 TASKS="recursive cot semi_recursive" bash launch/reproduce_posgen.sh
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${SEEDS:-3} steps=${STEPS:-400} tasks=${TASKS:-"recursive cot semi_recursive"} out=${OUT:-runs/posgen}
carillon=$PWD/${CARILLON:-build/carillon}
[ -x "${CARILLON:-build/carillon}" ] && carillon=${CARILLON:-build/carillon}
export OMP_NUM_THREADS=1
mkdir -p "$out"

rope_of() {
  case $1 in
    rope) echo "rope.type=default rope.resonance=false" ;;
    resonance) echo "rope.type=default rope.resonance=true" ;;
    yarn) echo "rope.type=yarn rope.factor=4 rope.resonance=false" ;;
    resonance_yarn) echo "rope.type=yarn rope.factor=4 rope.resonance=true" ;;
  esac
}
one() {  # one training and its evaluation; done already: nothing
  local task=$1 rope=$2 seed=$3 run=$out/$1-$2-$3
  [ -f "$run/done" ] && return
  # shellcheck disable=SC2046
  $carillon train launch/configs/posgen_quickstart.yaml $(rope_of "$rope") "data.train=[{path: $out/$task-$seed.jsonl}]" \
    train.max_steps="$steps" train.seed="$seed" parallel.context=1 output="$run" checkpoint.every_steps=100000 --quiet
  cat >"$run/sweep.yaml" <<YAML
models: [$run]
lengths: [64, 128, 256]
tasks: [{task: posgen, subtask: $task, train_length: 64, count: 100, seed: $seed}]
runtime: {dtype: float32}
output: $run/sweep
YAML
  $carillon sweep "$run/sweep.yaml" --quiet >/dev/null
  touch "$run/done"
  echo "$task $rope seed $seed: $(grep -E ',256,posgen,ood_accuracy,' "$run/sweep/table.csv" | sed 's/.*,/OOD accuracy at 256 /')"
}
export -f one rope_of; export out carillon steps
for task in $tasks; do
  for seed in $(seq "$seeds"); do
    [ -f "$out/$task-$seed.jsonl" ] || $carillon posgen "$out/$task-$seed.jsonl" task="$task" length=64 count=10000 seed="$seed"
  done
done
for seed in $(seq "$seeds"); do for task in $tasks; do for rope in rope resonance yarn resonance_yarn; do
  echo "$task $rope $seed"
done; done; done | xargs -P "$(nproc)" -L 1 bash -c 'one "$@"' _

echo
printf '%-16s %-16s %-10s %-16s %-16s %-16s\n' subtask rope "ID at 64" "OOD at 128" "OOD at 256" "fresh OOD 256"
for task in $tasks; do for rope in rope resonance yarn resonance_yarn; do
  cat "$out/$task-$rope"-*/sweep/table.csv | awk -F, -v task="$task" -v rope="$rope" '
    function keep(name) { n[name]++; s[name] += $NF; q[name] += $NF * $NF }
    function show(name,   m) { if (!n[name]) return "-"; m = s[name] / n[name]
      return sprintf("%.3f ± %.3f", m, n[name] > 1 ? sqrt((q[name] - n[name] * m * m > 0 ? q[name] - n[name] * m * m : 0) / (n[name] - 1)) : 0) }
    $(NF-1) == "id_accuracy" && $(NF-3) == 64 { keep("id") }
    $(NF-1) == "ood_accuracy" && $(NF-3) == 128 { keep("128") }
    $(NF-1) == "ood_accuracy" && $(NF-3) == 256 { keep("256") }
    $(NF-1) == "ood_accuracy_fresh" && $(NF-3) == 256 { keep("fresh") }
    END { printf "%-16s %-16s %-10s %-16s %-16s %-16s\n", task, rope, show("id"), show("128"), show("256"), show("fresh") }'
done; done | tee "$out/table.txt"
