// Runs evaluation points on a loaded model, for `eval`, `sweep` and evaluations during training.
#pragma once

#include <functional>
#include <string>

#include "launch/evaluate/tasks/task.h"

namespace carillon {

class PointRunner {
 public:
  // Allocates for the longest of config.lengths. Uses the weights of `shared`, which are trained elsewhere, or, if it
  // is null, its own, to be loaded into parameters(). `rope_section` names the settings in messages ("rope",
  // "eval.rope"); `tokenizer` may be null. Not collective. All arguments must outlive this object. Throws error 74 if
  // memory is insufficient.
  PointRunner(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const SweepConfig& config,
              const Tokenizer* tokenizer, std::string rope_section, Parameters* shared = nullptr);

  Parameters& parameters() { return scorer_.network().parameters(); }
  const Tokenizer* tokenizer() const { return tokenizer_; }

  // Returns the point's metrics on rank 0. `key_tokens`: for longppl only. `units`: filled if the task has them.
  // Collective; errors are thrown on every rank.
  Json run(const SweepPoint& point, const KeyTokens* key_tokens = nullptr, UnitLosses* units = nullptr);
  // Returns LongPPL's selection with this model as the evaluator. Collective.
  KeyTokens select(const SweepPoint& point) { return select_key_tokens(context(point)); }

 private:
  TaskContext context(const SweepPoint& point);

  ProcessGrid& grid_;
  const ModelConfig& model_;
  const SweepConfig& config_;
  const Tokenizer* tokenizer_;
  std::string rope_section_;
  Scorer scorer_;
  Generator generator_;
};

// Returns the record of a point: `metrics()` and the seconds it took, or why it failed. Rethrows an error that is not
// caused by the point (a broken invariant, a lost peer).
Json record_point(const SweepPoint& point, const std::function<Json()>& metrics);

// Returns a record's outcome for a line of progress: "semi_recursive accuracy 0.93" or "failed: no such file …".
std::string outcome_of(const SweepPoint& point, const Json& record);

}  // namespace carillon
