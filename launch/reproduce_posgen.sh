#!/usr/bin/env bash
# The experiment of Resonance RoPE (Wang et al., 2403.00071, section 6.1): PosGen subtasks × {RoPE, Resonance, YaRN,
# Resonance YaRN} × seeds, trained at 64 tokens. Measures accuracy in and out of distribution up to 256, on leaky and on
# fresh positions, and ends with a table next to the published one.
#   SEEDS=3 STEPS=1500 COURSE=6 TASKS="recursive cot semi_recursive" COUNT=500 OUT=runs/posgen bash launch/reproduce_posgen.sh
#   SCALE=two_cores   launch/configs/paper/posgen_two_cores.yaml: 36 runs of three to six minutes each, one per core
#   SCALE=published   posgen.yaml: the paper's size and its five seeds, 150 epochs (11850 steps) each: 60 runs, for a GPU
#                     with KEYS="runtime.device=cuda" JOBS=1
#   SCALE=far_token   posgen_far_token.yaml: a task that cannot be answered from nearby tokens
# COURSE=N evaluates each run N times during training, under its own rotation at 64, 128 and 256 tokens, and ends with a
# table of accuracy and training loss and two pictures of each subtask, OUT/course-SUBTASK.svg and accuracy-SUBTASK.svg:
# settings can be compared where their losses are flat and equal. COURSE=0: not. KEYS: further keys for every run. A restart continues where the
# script stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
scale=${SCALE:-two_cores}
case $scale in
  two_cores) default=(1500 10000 "recursive cot semi_recursive" "1 2 3" runs/posgen 6) ;;
  published) default=("" 10000 "recursive cot semi_recursive" "5549 4955 42 3701 49" runs/posgen-published 12) ;;
  far_token) default=(6000 60000 semi_recursive_strict "1 2 3" runs/posgen-far-token 12) ;;
  *) echo "SCALE is $scale: two_cores, published or far_token" >&2; exit 64 ;;
esac
config=launch/configs/paper/posgen.yaml
[ "$scale" = published ] || config=launch/configs/paper/posgen_$scale.yaml
steps=${STEPS:-${default[0]}} sequences=${SEQUENCES:-${default[1]}} tasks=${TASKS:-${default[2]}} out=${OUT:-${default[4]}}
count=${COUNT:-500} course=${COURSE:-${default[5]}} keys=${KEYS:-} jobs=${JOBS:-$(nproc)}
read -r -a seed_list <<<"${default[3]}"
[ -z "${SEEDS:-}" ] || [ "$SEEDS" -le "${#seed_list[@]}" ] || mapfile -t seed_list < <(seq "$SEEDS")
seed_list=("${seed_list[@]:0:${SEEDS:-${#seed_list[@]}}}")
seeds=${#seed_list[@]}
carillon=$(realpath "${CARILLON:-build/carillon}")
export OMP_NUM_THREADS=1
mkdir -p "$out"

rope_of() {
  case $1 in
    rope) echo "rope.type=default rope.factor=null rope.resonance=false" ;;
    resonance) echo "rope.type=default rope.factor=null rope.resonance=true" ;;
    yarn) echo "rope.type=yarn rope.factor=4 rope.original_max_position_embeddings=64 rope.resonance=false" ;;
    resonance_yarn) echo "rope.type=yarn rope.factor=4 rope.original_max_position_embeddings=64 rope.resonance=true" ;;
  esac
}
one() {  # one training and its evaluation; nothing if already done
  local task=$1 rope=$2 seed=$3 run=$out/$1-$2-$3 length=() along=(eval.every_steps=null)
  [ -f "$run/done" ] && return
  [ -z "$steps" ] || length=(train.max_steps="$steps")
  [ "$course" = 0 ] || along=(eval.every_steps=$(((${steps:-11850} + course - 1) / course)) eval.at_end=true
    "eval.lengths=[64, 128, 256]"
    "eval.tasks=[{task: posgen, subtask: $task, train_length: 64, count: $count, seed: $seed}]")
  # shellcheck disable=SC2046,SC2086
  $carillon train "$config" $(rope_of "$rope") "data.train=[{path: $out/$task-$seed.jsonl}]" "${length[@]}" "${along[@]}" \
    train.seed="$seed" checkpoint.every_steps=null checkpoint.every=10m checkpoint.keep=1 output="$run" $keys --quiet
  # `own` is what the paper describes. The authors' code trains with plain frequencies and applies YaRN only in the
  # evaluation, as the other two settings do.
  cat >"$run/sweep.yaml" <<YAML
models: [$run]
checkpoints: newest
rope:
  own: {}
  yarn_in_evaluation: {type: yarn, factor: 4, original_max_position_embeddings: 64, resonance: false}
  resonance_yarn_in_evaluation: {type: yarn, factor: 4, original_max_position_embeddings: 64, resonance: true}
lengths: [64, 128, 256]
tasks: [{task: posgen, subtask: $task, train_length: 64, count: $count, seed: $seed}]
runtime: {dtype: float32}
output: $run/sweep
YAML
  $carillon sweep "$run/sweep.yaml" --quiet >/dev/null
  touch "$run/done"
  echo "$task $rope seed $seed: $(grep -E ',own,256,posgen,ood_accuracy,' "$run/sweep/table.csv" | sed 's/.*,/OOD accuracy at 256 /')"
}
export -f one rope_of; export out carillon config steps count course keys
for task in $tasks; do
  for seed in "${seed_list[@]}"; do
    [ -f "$out/$task-$seed.jsonl" ] ||
      $carillon posgen "$out/$task-$seed.jsonl" task="$task" length=64 count="$sequences" seed="$seed"
  done
done
for seed in "${seed_list[@]}"; do for task in $tasks; do for rope in rope resonance yarn resonance_yarn; do
  echo "$task $rope $seed"
done; done; done | xargs -P "$jobs" -L 1 bash -euo pipefail -c 'one "$@"' _

# OOD accuracy at 256 tokens, percent, of the paper's Table 1.
published() {
  case $1-$2 in
    recursive-rope) echo 65.29 ;; recursive-resonance) echo 62.64 ;; recursive-yarn) echo 95.93 ;; recursive-resonance_yarn) echo 98.30 ;;
    cot-rope) echo 69.56 ;; cot-resonance) echo 75.25 ;; cot-yarn) echo 98.71 ;; cot-resonance_yarn) echo 99.58 ;;
    semi_recursive-rope) echo 17.96 ;; semi_recursive-resonance) echo 29.78 ;; semi_recursive-yarn) echo 33.70 ;;
    semi_recursive-resonance_yarn) echo 48.46 ;;
    # The authors' code trains with the plain or the rounded frequencies.
    *-yarn_in_evaluation | *-resonance_yarn_in_evaluation) published "$1" "${2%_in_evaluation}" ;; *) echo - ;;
  esac
}
table() {
  if [ "$seeds" -gt 1 ]; then echo "Accuracy in percent, mean ± standard deviation over $seeds seeds; trained at 64 tokens."
  else echo "Accuracy in percent, one seed; trained at 64 tokens."; fi
  echo "| subtask | trained with | evaluated with | ID, at 64 | OOD, at 128 | OOD, at 256 | OOD at 256, leaky | OOD at 256, fresh | published OOD at 256 |"
  echo "|---|---|---|---|---|---|---|---|---|"
  local task rope setting
  for task in $tasks; do for setting in rope/own resonance/own yarn/own resonance_yarn/own rope/yarn_in_evaluation resonance/resonance_yarn_in_evaluation; do
    rope=${setting%/*}
    cat "$out/$task-$rope"-*/sweep/table.csv | awk -F, -v task="$task" -v rope="$rope" -v with="${setting#*/}" \
      -v paper="$(case $setting in */own) published "$task" "$rope" ;; *) published "$task" "${setting#*/}" ;; esac)" '
      $(NF-4) != with { next }
      function keep(name) { n[name]++; s[name] += 100 * $NF; q[name] += 10000 * $NF * $NF }
      function show(name,   m, v) { if (!n[name]) return "-"; m = s[name] / n[name]; v = q[name] - n[name] * m * m
        return n[name] < 2 ? sprintf("%.2f", m) : sprintf("%.2f ± %.2f", m, v > 0 ? sqrt(v / (n[name] - 1)) : 0) }
      $(NF-1) == "id_accuracy" && $(NF-3) == 64 { keep("id") }
      $(NF-1) == "ood_accuracy" && $(NF-3) == 128 { keep("128") }
      $(NF-1) == "ood_accuracy" && $(NF-3) == 256 { keep("256") }
      $(NF-1) == "ood_accuracy_leaky" && $(NF-3) == 256 { keep("leaky") }
      $(NF-1) == "ood_accuracy_fresh" && $(NF-3) == 256 { keep("fresh") }
      END { printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", task, rope, with, show("id"), show("128"), show("256"),
            show("leaky"), show("fresh"), paper }'
  done; done
}
echo
table | tee "$out/table.md"
[ "$course" = 0 ] || { echo; python3 launch/experiments/posgen_course.py "$out" | tee "$out/course.md"; }
