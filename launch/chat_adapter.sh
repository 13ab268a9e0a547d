#!/usr/bin/env bash
# Trains a LoRA adapter on conversations about long documents, on two context ranks of one machine, and evaluates it:
#
#   bash launch/chat_adapter.sh SmolLM2-135M/ [OUT]        # a Hugging Face folder (this one: tests/oracle/README.md)
#
# Each conversation is one document of about LENGTH tokens, which assigns codes to places, followed by eight questions
# about the codes; the answers are far back in the document. Only the assistant's tokens are trained. Before and after
# training it evaluates passkey and needle at LENGTH tokens, and the loss of answers about documents that were not
# trained on. If stopped and started again, it continues (data, training and sweep). STEPS, TRIALS, DEPTHS and RANKS
# make it smaller or larger.
set -euo pipefail
base=${1:?a model folder, as in: bash launch/chat_adapter.sh SmolLM2-135M/}
out=${2:-runs/chat_adapter}
carillon=${CARILLON:-build/carillon}
LENGTH=${LENGTH:-8192} STEPS=${STEPS:-24} TRIALS=${TRIALS:-2} DEPTHS=${DEPTHS:-5} RANKS=${RANKS:-2} RANK=${RANK:-16}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1   # needed by root only
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
ranks() { mpirun -n "$RANKS" --oversubscribe "$carillon" "$@"; }
mkdir -p "$out"

# conversations COUNT SEED
conversations() {
  awk -v count="$1" -v seed="$2" -v length_wanted="$LENGTH" '
    function pick(list, n) { return list[1 + int(rand() * n)] }
    function turn(role, text) { return "{\"role\": \"" role "\", \"content\": \"" text "\"}" }
    BEGIN {
      srand(seed)
      colours = split("silver copper green amber white scarlet violet grey ivory cobalt", colour, " ")
      things = split("gate tower bridge cellar lantern archive orchard harbour mill chapel", thing, " ")
      people = split("A clerk|The baker|An old sailor|The gardener|A traveller|The watchman|Her neighbour|A student", person, "|")
      acts = split("walked slowly past|counted the windows of|wrote a long letter about|waited until evening beside|swept the steps of|painted", act, "|")
      places = split("the market hall|the quiet square|a narrow street|the river bank|the railway station|the old library|the post office", place, "|")
      ends = split("and went home before dark|while the rain was falling|because nobody had asked|and thought no more of it|as on every other day", end, "|")
      for (n = 0; n < count; ++n) {
        delete code; delete order; facts = 0
        text = "Read this report. Questions about it follow.\\n\\n"
        # A sentence has about 14 tokens; every eighth gives a place its code. The questions take about 500 tokens.
        sentences = int((length_wanted - 700) / 14.8)
        for (s = 0; s < sentences; ++s) {
          name = pick(colour, colours) " " pick(thing, things)
          if (s % 8 == 3 && !(name in code)) {
            code[name] = 10000 + int(rand() * 90000); order[++facts] = name
            text = text "The code of the " name " is " code[name] ". "
          } else
            text = text pick(person, people) " " pick(act, acts) " " pick(place, places) " " pick(end, ends) ". "
        }
        messages = ""
        for (q = 0; q < 8; ++q) {
          name = order[1 + int(rand() * facts * (q < 4 ? 0.25 : 1))]   # the first four ask about the first quarter
          question = "What is the code of the " name "?"
          messages = messages (q ? ", " : "") turn("user", (q ? "" : text "\\n\\n") question) ", " turn("assistant", "The code of the " name " is " code[name] ".")
        }
        print "{\"messages\": [" messages "]}"
      }
    }'
}
[ -s "$out/train.jsonl" ] || conversations 200 1 >"$out/train.jsonl"
[ -s "$out/validation.jsonl" ] || conversations 4 2 >"$out/validation.jsonl"

cat >"$out/train.yaml" <<YAML
model: {base: "$base"}
data:
  train: [{path: $out/train.jsonl}]
  chat_template: chatml
  train_on: assistant
  sequence_length: $LENGTH
train: {max_steps: $STEPS, learning_rate: ${RATE:-1e-3}, warmup_steps: 2, lr_scheduler: cosine, recompute: selective}
adapter: {type: lora, rank: $RANK, alpha: $((2 * RANK))}
parallel: {context: $RANKS}
runtime: {dtype: bfloat16}
checkpoint: {every_steps: 4, keep: 2}
output: $out/run
YAML

cat >"$out/sweep.yaml" <<YAML
models: ["$base", $out/run]
checkpoints: newest
lengths: [$LENGTH]
data: {chat_template: chatml}
tasks:
  - {task: perplexity, name: answers, data: [{path: $out/validation.jsonl}], window: full}
  - {task: passkey, depths: $DEPTHS, trials: $TRIALS, seed: 1}
  - {task: needle, depths: $DEPTHS, trials: $TRIALS, seed: 1}
parallel: {context: $RANKS}
runtime: {dtype: bfloat16}
output: $out/sweep
YAML

ranks train "$out/train.yaml"
ranks sweep "$out/sweep.yaml"
"$carillon" export "$out/run" "$out/adapter" format=peft
