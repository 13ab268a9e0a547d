// Evaluation points on the model that is loaded: what `eval`, `sweep` and evaluations in training do with a point.
#pragma once

#include <functional>
#include <string>

#include "launch/evaluate/tasks/task.h"

namespace carillon {

class PointRunner {
 public:
  // Allocates for the longest of config.lengths. Weights are those of `shared`, which somebody else trains, or where
  // that is null its own, to be loaded into parameters(). `rope_section` names the settings in messages ("rope",
  // "eval.rope"); `tokenizer` may be null. Collective in nothing; everything given must outlive it. Error 74 when there
  // is no memory.
  PointRunner(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const SweepConfig& config,
              const Tokenizer* tokenizer, std::string rope_section, Parameters* shared = nullptr);

  Parameters& parameters() { return scorer_.network().parameters(); }
  const Tokenizer* tokenizer() const { return tokenizer_; }

  // The point's metrics, on rank 0. `key_tokens`: longppl only; `units`: filled where the task has them. Collective;
  // errors on every rank alike.
  Json run(const SweepPoint& point, const KeyTokens* key_tokens = nullptr, UnitLosses* units = nullptr);
  // LongPPL's selection, with this model as the evaluator. Collective.
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

// The record of a point: `metrics()` and the seconds it took, or why it failed. An error that is not the point's own (a
// broken invariant, a lost peer) is thrown on.
Json record_point(const SweepPoint& point, const std::function<Json()>& metrics);

// "semi_recursive accuracy 0.93" or "failed: no such file …": what a record says, for a line of progress.
std::string outcome_of(const SweepPoint& point, const Json& record);

}  // namespace carillon
