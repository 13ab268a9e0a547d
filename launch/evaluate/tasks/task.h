// The tasks of a sweep: a model in, metrics out. Each runs on every layout, by way of the Scorer and the Generator.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/corpus/document_reader.h"
#include "data/tokenizer/tokenizer.h"
#include "launch/evaluate/sweep_config.h"
#include "launch/evaluate/unit_losses.h"
#include "launch/inference/generator.h"
#include "launch/inference/scorer.h"

namespace carillon {

// LongPPL: of each document the indices of its key tokens, increasing.
using KeyTokens = std::vector<std::vector<int64_t>>;

struct TaskContext {
  Communicator& world;
  Scorer& scorer;
  Generator& generator;
  const SweepPoint& point;
  const SweepConfig& config;
  const Tokenizer* tokenizer;  // may be null
  const ModelConfig& model;
  const KeyTokens* key_tokens = nullptr;  // longppl only
  UnitLosses* units = nullptr;            // null: not asked for; filled on rank 0 by perplexity alone
};

// Metrics as in launch/README.md, "Sweeps". Collective over `world`; what can fail on bad input is agreed upon, so an
// Error comes on every rank alike. On ranks other than 0 the metrics are empty.
using RunTask = Json (*)(const TaskContext&);
Json run_perplexity(const TaskContext& context);
Json run_long_perplexity(const TaskContext& context);
Json run_posgen(const TaskContext& context);
Json run_retrieval(const TaskContext& context);
Json run_attention(const TaskContext& context);
Json run_embedding(const TaskContext& context);

// Everything the program knows about a kind of task, in one place.
struct TaskKind {
  std::string main_metric;  // what it is read by
  Json keys;                // beside `task` and `name`, with their defaults; null: none
  void (*check)(const Json& task, const SweepConfig& config);  // error 64
  RunTask run;
};
const std::map<std::string, TaskKind>& task_kinds();
inline Json run_task(const TaskContext& context) {
  return task_kinds().at(context.point.task["task"].get<std::string>()).run(context);
}

// Scored tokens of one window: [begin, end) of the document, those from `scored` on count.
struct Window {
  int64_t begin;
  int64_t end;
  int64_t scored;
};
// Windows of a document of `tokens` tokens: full: its first `length` tokens; blocks: one after another; sliding: from
// 0, stride, 2·stride …, each scoring what was not scored before. The first token of a window is never scored.
std::vector<Window> windows_of(int64_t tokens, const std::string& kind, int64_t length, int64_t stride);

// Hands every document of the task's data (or of data.validation) to `use`, in order: its tokens, their weights as
// targets (`loss_mask`; empty: all 1) and, with `count_bytes`, the bytes of the source that each token stands for (none
// of documents that are no text). Collective in its errors.
using UseDocument = std::function<void(Document& document)>;
void for_each_document(const TaskContext& context, bool count_bytes, const UseDocument& use);
// The files a task reads. Error 64.
std::vector<std::string> data_paths(const Json& task, const SweepConfig& config);

// LongPPL's selection (Fang et al., 2410.23771, section 3): tokens that the evaluator, whose scorer and tokenizer the
// context has, predicts well (above `beta`) and much better (by more than `alpha`) with the whole document than with
// the last `short_length` to `short_length` + `stride` tokens. On rank 0; collective.
KeyTokens select_key_tokens(const TaskContext& evaluator);

// Right and all, of one kind of thing.
struct Share {
  double right = 0;
  int64_t all = 0;
  void add(double is_right) { right += is_right, ++all; }
  Json json() const { return all == 0 ? Json() : Json(right / static_cast<double>(all)); }
};

}  // namespace carillon
