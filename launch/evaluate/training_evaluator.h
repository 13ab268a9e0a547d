// Evaluations during training: the tasks, lengths and rope settings of `eval`, with the current weights. The training
// state is not changed: weights are only read, activations are separate, and no random numbers are drawn.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "data/tokenizer/tokenizer.h"
#include "launch/evaluate/point_runner.h"
#include "launch/evaluate/sweep_results.h"
#include "launch/evaluate/watched_metric.h"

namespace carillon {

class TrainingEvaluator {
 public:
  // Allocates for the longest of `eval.lengths`, so construct it before the first step. `tokenizer` may be null. All
  // arguments must outlive this object. Throws error 64 for tasks that are invalid.
  TrainingEvaluator(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const RunConfig& run,
                    Parameters& weights, const Tokenizer* tokenizer);

  // The tasks whose documents are not there now, and the rope settings that the model cannot have: a run that nobody
  // watches would fail at them again and again.
  std::vector<std::string> foreseen_failures() const;

  // Whether the schedule asks for one after step `step` (from 1): every_steps, at, at_end.
  bool due(int64_t step, bool last) const;
  // Whether `eval.every` requests one, by the clock of the calling rank.
  bool due_by_clock() const;

  // Runs all points for which evals.jsonl has no successful record of this step, and appends one record for each; a
  // failed point's record has the reason. `stop` is called between points, on every rank. `recorded` is called with
  // each record on rank 0. Returns false if it stopped before the last point. Collective.
  bool run(int64_t step, const std::function<bool()>& stop, const std::function<void(const std::string&)>& say,
           const std::function<void(const Json&)>& recorded);
  // Returns `metric` after that step; nothing if it was not measured. Collective, with the same result on every rank.
  std::optional<double> value(const WatchedMetric& metric, int64_t step) const;

 private:
  std::set<std::string> points_done(int64_t step) const;  // the same on every rank

  ProcessGrid& grid_;
  const ModelConfig& model_;
  EvalSection schedule_;
  SweepConfig sweep_;
  PointRunner runner_;
  SweepResults results_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Whether a run requests any evaluation.
bool evaluates(const EvalSection& eval);

}  // namespace carillon
