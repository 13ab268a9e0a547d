#!/usr/bin/env bash
# Compares rotations on English. Trains a decoder of 5.9 million parameters from scratch at 256 tokens on the text of
# Debian packages. Extends it ×4 and ×8 by fine-tuning under each rotation of launch/experiments/methods.txt (equal
# steps, three seeds, each with its own base), and trains it from scratch under each. Scores all on held-out documents
# up to 8 times the short length and compares them in pairs with YaRN.
#   bash launch/reproduce_language.sh            continues where it stopped; takes days, the first table after the first of them
#   bash launch/reproduce_language.sh status     shows what is finished
#   bash launch/reproduce_language.sh tables     shows the tables of what is finished
#   HEADS="64" BASES="10000" FACTORS="4" SEEDS=3 STAGES="extend scratch" STEPS=6000 EXTEND_STEPS=100 JOBS=2 OUT=runs/language
# Runs at the lowest priority, JOBS runs of one thread at a time. TEXTS=FOLDER uses .md and .txt files as text,
# VOCABULARY=257 uses bytes as tokens, SHORT=256 is the short length: with these a test completes in seconds.
# METHODS="launch/experiments/methods.txt launch/experiments/training_methods.txt" STAGES=extend adds other ways to extend a model.
set -euo pipefail
cd "$(dirname "$0")/.."
export OUT=${OUT:-runs/language} SEEDS=${SEEDS:-3} STEPS=${STEPS:-6000} EXTEND_STEPS=${EXTEND_STEPS:-100} SHORT=${SHORT:-256}
export METHODS=${METHODS:-launch/experiments/methods.txt} KEYS=${KEYS:-}
export SEARCH=${SEARCH:-"{population: 32, iterations: 20}"}
export SHORT_TOKENS=${SHORT_TOKENS:-16384} EXTEND_TOKENS=${EXTEND_TOKENS:-8192}
export EXTEND_RATE=${EXTEND_RATE:-5e-4} SCRATCH_FACTOR=${SCRATCH_FACTOR:-8}
heads=${HEADS:-64 128} bases=${BASES:-10000 500000} factors=${FACTORS:-4 8} stages=${STAGES:-extend scratch}
vocabulary=${VOCABULARY:-4096} jobs=${JOBS:-$(nproc)}
CARILLON=$(realpath "${CARILLON:-build/carillon}")
export CARILLON
export OMP_NUM_THREADS=1
mkdir -p "$OUT"
say() { printf '%s %s\n' "$(date +%H:%M)" "$*"; }
export -f say

data() {  # once: text, tokenizer, token files
  [ -f "$OUT/data.done" ] && return
  local python=python3
  if [ -n "${TEXTS:-}" ]; then
    python3 launch/experiments/english_text.py --folder "$TEXTS" "$OUT/text"
  else
    local packages=$OUT/packages
    mkdir -p "$packages"
    for name in $(python3 launch/experiments/english_text.py --names); do
      ls "$packages/${name}"_*.deb >/dev/null 2>&1 || (cd "$packages" && apt-get download -qq "$name")
    done
    say "text out of $(find "$packages" -name '*.deb' | wc -l) packages"
    python3 launch/experiments/english_text.py "$packages" "$OUT/text"
  fi
  if [ "$vocabulary" -gt 257 ]; then
    [ -d "$OUT/venv" ] || { python3 -m venv "$OUT/venv" && "$OUT/venv/bin/pip" install -q --no-deps tokenizers==0.23.3; }
    python=$OUT/venv/bin/python
  fi
  say "a vocabulary of $vocabulary"
  $python launch/experiments/vocabulary.py "$OUT/text/train.jsonl" "$OUT/tokenizer" "$vocabulary"
  local part
  for part in train long validation test; do
    "$CARILLON" tokenize "$OUT/text/$part.jsonl" tokenizer="$OUT/tokenizer" output="$OUT/$part.h5" overwrite=true
  done | tee "$OUT/tokens.txt"
  touch "$OUT/data.done"
}

keys_of() {  # METHOD FACTOR HEAD BASE: prints the method's keys
  local keys
  keys=$(awk -v name="$1" -v factor="$2" -v quarter="$(($3 / 8))" -v original="$SHORT" -v rows="$((EXTEND_TOKENS / SHORT))" \
    -v all="[{\"path\":\"$OUT/train.h5\"}]" '
    $1 == name {
      $1 = ""
      gsub(/FACTOR/, factor); gsub(/QUARTER/, quarter); gsub(/LENGTH/, factor * original)
      gsub(/ORIGINAL/, original); gsub(/ROWS/, rows); gsub(/ALL/, all)
      print
    }' "$METHODS")
  [[ $keys != *SEARCHED* ]] || keys=${keys/SEARCHED/$(searched "$2" "$3" "$4")}
  [[ $keys != *PASSAGES* ]] || keys=${keys/PASSAGES/$(passages)}
  echo "$keys"
}
passages() {  # once: the training documents as rows of half a prompt and half a completion, of about the short length
  local rows=$OUT/text/passages.jsonl file=$OUT/passages.h5
  (
    flock 9
    [ -f "$file" ] && exit
    python3 launch/experiments/passages.py "$OUT/text/train.jsonl" "$rows" $((SHORT * 3))
    "$CARILLON" tokenize "$rows" tokenizer="$OUT/tokenizer" output="$file" >&2
  ) 9>"$file.lock"
  echo "[{\"path\":\"$file\"}]"
}
last_of_each() {  # KEY=VALUE…: prints one word a line, of each key the last: a method may replace what the script sets
  printf '%s\n' "$@" | tac | awk -F= '!seen[$1]++' | tac
}
searched() {  # FACTOR HEAD BASE: longrope's divisors for the base of seed 1, searched by perplexity of the validation documents
  local folder
  folder=$(folder_of "$2" "$3")/searched-x$1
  mkdir -p "$folder"
  base "$2" "$3" 1 >&2
  (
    flock 9
    [ -f "$folder/best.yaml" ] && exit
    cat >"$folder.yaml" <<YAML
model: $(folder_of "$2" "$3")/short/none-1
length: $(($1 * SHORT))
data: {validation: [{path: $OUT/validation.h5}]}
search: $SEARCH
runtime: {dtype: bfloat16}
output: $folder
YAML
    "$CARILLON" rope search "$folder.yaml" >"$folder.txt"
  ) 9>"$folder.lock"
  # Prints the section `rope:` as key=value words.
  sed -n -E 's/^  ([a-z_]+): */rope.\1=/p' "$folder/best.yaml" | tr -d ' '
}
# Writes the table of methods without those that the program does not have. A name that comes twice counts once.
# shellcheck disable=SC2046,SC2086
known_methods() {
  local name keys
  while read -r name keys; do
    [[ -n $name && $name != \#* ]] || continue
    if [[ $keys == *SEARCHED* ]]; then
      # Captured whole first: a reader that stops early would make the writer fail.
      [[ $("$CARILLON" rope search --help 2>/dev/null) == *search.population* ]] ||
        { say "left out: $name, this program has no rope search" >&2; continue; }
    elif ! "$CARILLON" rope $(tr ' ' '\n' <<<"$keys" | grep '^rope' | sed 's/FACTOR/4/; s/QUARTER/8/') model.head_dim=64 \
      rope.original_max_position_embeddings="$SHORT" >/dev/null 2>&1; then
      say "left out: $name, which this program does not know" >&2
      continue
    fi
    echo "$name $keys"
  done < <(awk '!seen[$1]++' $METHODS) >"$OUT/methods.txt.$$"
  METHODS=$OUT/methods.txt
  mv "$METHODS.$$" "$METHODS"  # atomic, because running processes read it
}
names() { cut -d' ' -f1 "$METHODS"; }
folder_of() { echo "$OUT/head$1-base$2"; }
train() {  # RUN CONFIG KEYS…: trains to the end; waits if another process is working on the run
  local run=$1 config=$2 words
  shift 2
  mkdir -p "$run"
  (
    flock 9
    [ -f "$run.done" ] && exit
    say "begins ${run#"$OUT"/}"
    # shellcheck disable=SC2086
    mapfile -t words < <(last_of_each "data.validation=[{path: $OUT/validation.h5}]" data.tokenizer="$OUT/tokenizer" \
      rope.original_max_position_embeddings="$SHORT" "$@" output="$run" $KEYS)
    "$CARILLON" train "$config" "${words[@]}" --quiet
    touch "$run.done"
    say "ended ${run#"$OUT"/}"
  ) 9>"$run.lock"
}
short() {  # RUN HEAD BASE SEED KEYS…: trains from scratch at the short length
  local run=$1 head=$2 base=$3 seed=$4
  shift 4
  train "$run" launch/configs/language.yaml model.vocab_size="$vocabulary" model.head_dim="$head" \
    model.num_attention_heads=$((256 / head)) model.num_key_value_heads=$((256 / head)) \
    model.max_position_embeddings="$SHORT" rope.base="$base" "data.train=[{path: $OUT/train.h5}]" \
    data.sequence_length="$SHORT" train.micro_batch_size=$((SHORT_TOKENS / SHORT)) train.max_steps="$STEPS" \
    train.warmup_steps=$((STEPS / 20)) train.seed="$seed" "$@"
}
base() {  # HEAD BASE SEED
  short "$(folder_of "$1" "$2")/short/none-$3" "$1" "$2" "$3"
}
# Scores the finished runs of a folder that are not yet scored, and compares all of them with YaRN's.
score() {  # FOLDER
  local folder=$1 models baseline
  (
    flock 9
    # shellcheck disable=SC2046
    models=$(printf '%s\n' $(names | while read -r name; do for seed in $(seq "$SEEDS"); do
      [ -f "$folder/$name-$seed.done" ] && echo "$folder/$name-$seed"; done; done) | paste -sd,)
    [ -n "$models" ] || exit 0
    for baseline in none yarn; do
      baseline=$(tr , '\n' <<<"$models" | grep -m1 "/$baseline-" || true)
      [ -n "$baseline" ] || continue
      cat >"$folder/sweep.yaml" <<YAML
models: [$models]
checkpoints: newest
lengths: [$SHORT, $((4 * SHORT)), $((8 * SHORT))]
tasks: [{task: perplexity, data: [{path: $OUT/test.h5}]}]
compare: {baseline: $baseline}
runtime: {dtype: bfloat16}
output: $folder/sweep
YAML
      "$CARILLON" sweep "$folder/sweep.yaml" --quiet >"$folder/sweep.txt"
      baseline=${baseline##*/}
      cp "$folder/sweep/comparisons.json" "$folder/comparisons-${baseline%-*}.json"
    done
  ) 9>"$folder/sweep.lock"
}
one() {  # STAGE HEAD BASE FACTOR METHOD SEED
  local stage=$1 head=$2 base=$3 factor=$4 method=$5 seed=$6 folder
  set -f  # keys contain lists in brackets
  folder=$(folder_of "$head" "$base")
  case $stage in
    base) base "$head" "$base" "$seed" ;;
    extend)
      base "$head" "$base" "$seed"
      local length=$((factor * SHORT))
      local words
      words=$(keys_of "$method" "$factor" "$head" "$base")
      # shellcheck disable=SC2086
      train "$folder/extended-x$factor/$method-$seed" launch/configs/language_extended.yaml model.base="$folder/short/none-$seed" \
        "data.train=[{path: $OUT/long.h5}]" data.sequence_length="$length" train.micro_batch_size=$((EXTEND_TOKENS / length)) \
        train.max_steps="$EXTEND_STEPS" train.learning_rate="$EXTEND_RATE" train.warmup_steps=$((EXTEND_STEPS / 10)) \
        train.min_lr_ratio=0 train.seed="$seed" $words
      score "$folder/extended-x$factor"
      return ;;
    scratch)  # `none` is the base
      local words
      words=$(keys_of "$method" "$SCRATCH_FACTOR" "$head" "$base")
      # shellcheck disable=SC2086
      [ "$method" = none ] || short "$folder/short/$method-$seed" "$head" "$base" "$seed" $words ;;
  esac
  score "$folder/short"
}
# Prints all pieces of work, the most informative first: each line is a list of arguments to `one`.
work() {
  local stage head base factor method seed
  for base in $bases; do for head in $heads; do
    for seed in $(seq "$SEEDS"); do echo "base $head $base 1 none $seed"; done
    for stage in $stages; do
      case $stage in
        extend)
          for factor in $factors; do for method in $(names); do for seed in $(seq "$SEEDS"); do
            echo "extend $head $base $factor $method $seed"
          done; done; done ;;
        scratch)
          for seed in $(seq "$SEEDS"); do for method in $(names | grep -v '^none$'); do
            echo "scratch $head $base $SCRATCH_FACTOR $method $seed"
          done; done ;;
      esac
    done
  done; done
}
status() {
  echo "| head | base | what | finished | at work |"
  echo "|---|---|---|---|---|"
  work | awk -v out="$OUT" '
    function lines(file,   n, line) { n = 0; while ((getline line < file) > 0) n++; close(file); return n }
    { group = $2 " | " $3 " | " ($1 == "extend" ? "extended ×" $4 : $1 == "base" ? "base" : "from the start")
      run = out "/head" $2 "-base" $3 "/" ($1 == "extend" ? "extended-x" $4 : "short") "/" $5 "-" $6
      if (!(group in all)) order[++groups] = group
      all[group]++
      if ((getline line < (run ".done")) >= 0) { done[group]++; close(run ".done") }
      else if ((steps = lines(run "/metrics.jsonl")) > 0) working[group] = working[group] " " $5 "-" $6 " (step " steps ")" }
    END { for (i = 1; i <= groups; i++) { g = order[i]; printf "| %s | %d of %d |%s |\n", g, done[g], all[g], working[g] } }'
}
known_methods
export vocabulary METHODS
export -f one base short train score names keys_of last_of_each folder_of searched passages

case ${1:-all} in
  status) status ;;
  tables) python3 launch/experiments/language_tables.py "$OUT" ;;
  all)
    [ -n "${TEXTS:-}" ] || renice -n 19 -p $$ >/dev/null
    data
    work | xargs -P "$jobs" -L 1 bash -euo pipefail -c 'one "$@"' _ || failed=$?
    status
    python3 launch/experiments/language_tables.py "$OUT" | tee "$OUT/tables.md"
    exit "${failed:-0}" ;;
  *) echo "usage: bash launch/reproduce_language.sh [status | tables]" >&2; exit 64 ;;
esac
