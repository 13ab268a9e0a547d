// The tasks of a sweep, from model to metrics. Each runs on every layout, through the Scorer and the Generator.
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

// LongPPL's key tokens: increasing indices for each document.
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
  UnitLosses* units = nullptr;            // null: not requested; only perplexity fills it, on rank 0
};

// Return the metrics described in launch/README.md, "Sweeps". Collective over `world`; errors on bad input are agreed
// upon and thrown on every rank. On ranks other than 0 the metrics are empty.
using RunTask = Json (*)(const TaskContext&);
Json run_perplexity(const TaskContext& context);
Json run_long_perplexity(const TaskContext& context);
Json run_posgen(const TaskContext& context);
Json run_retrieval(const TaskContext& context);
Json run_attention(const TaskContext& context);
Json run_embedding(const TaskContext& context);

// The definition of a kind of task.
struct TaskKind {
  std::string main_metric;  // the metric that represents it
  Json keys;                // in addition to `task` and `name`, with their defaults; null: none
  void (*check)(const Json& task, const SweepConfig& config);  // error 64
  RunTask run;
  // The metrics by which models can be compared.
  std::vector<std::string> better_lower, better_higher;
};
const std::map<std::string, TaskKind>& task_kinds();
inline Json run_task(const TaskContext& context) {
  return task_kinds().at(context.point.task["task"].get<std::string>()).run(context);
}

// A window [begin, end) of a document; tokens from `scored` on are scored.
struct Window {
  int64_t begin;
  int64_t end;
  int64_t scored;
};
// Returns the windows of a document of `tokens` tokens. full: its first `length` tokens; blocks: consecutive windows;
// sliding: windows from 0, stride, 2·stride …, each scoring what was not scored before. The first token of a window is
// never scored.
std::vector<Window> windows_of(int64_t tokens, const std::string& kind, int64_t length, int64_t stride);

// Passes every document of the task's data (or of data.validation) to `use`, in order: its tokens, their weights as
// targets (`loss_mask`; empty: all 1) and, with `count_bytes`, the source bytes of each token (none for documents that
// are not text). The error handling is collective.
using UseDocument = std::function<void(Document& document)>;
void for_each_document(const TaskContext& context, bool count_bytes, const UseDocument& use);
// Whether a task reads documents; a needle without `data` generates its haystack.
bool reads_documents(const Json& task);
// Returns the files and patterns of such a task. Error 64.
std::vector<std::string> data_paths(const Json& task, const SweepConfig& config);

// Returns LongPPL's selection (Fang et al., 2410.23771, section 3): the tokens that the evaluator (the context's scorer
// and tokenizer) predicts well (above `beta`) and much better (by more than `alpha`) from the whole document than from
// the last `short_length` to `short_length` + `stride` tokens. The result is on rank 0. Collective.
KeyTokens select_key_tokens(const TaskContext& evaluator);

// Counts correct answers out of all of one kind.
struct Share {
  double right = 0;
  int64_t all = 0;
  void add(double is_right) { right += is_right, ++all; }
  Json json() const { return all == 0 ? Json() : Json(right / static_cast<double>(all)); }
};

}  // namespace carillon
