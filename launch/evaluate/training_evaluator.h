// Evaluations while a run trains: the tasks, lengths and rope settings of `eval`, with the weights as they are. The
// training state is not touched: weights are read, activations are this one's own, nothing random is drawn.
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
  // Memory for the longest of `eval.lengths` is taken here, before the first step. `tokenizer` may be null; everything
  // given must outlive it. Error 64 for tasks that make no sense.
  TrainingEvaluator(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const RunConfig& run,
                    Parameters& weights, const Tokenizer* tokenizer);

  // The tasks whose documents are not there now: a run that nobody watches would fail at them again and again.
  std::vector<std::string> foreseen_failures() const;

  // Whether the schedule asks for one after step `step` (from 1): every_steps, at, at_end.
  bool due(int64_t step, bool last) const;
  // `eval.every`, by the clock of the calling rank.
  bool due_by_clock() const;

  // Runs all points that evals.jsonl has no good record of for this step, one record each; `stop` is asked between
  // points, on every rank alike. A point that fails is recorded with its reason. `recorded` is called with the records,
  // on rank 0. False when it stopped before the last. Collective.
  bool run(int64_t step, const std::function<bool()>& stop, const std::function<void(const std::string&)>& say,
           const std::function<void(const Json&)>& recorded);
  // What `metric` was after that step; nothing where it was not measured. Collective, the same on every rank.
  std::optional<double> value(const WatchedMetric& metric, int64_t step) const;

 private:
  std::set<std::string> points_done(int64_t step) const;  // the same on every rank

  ProcessGrid& grid_;
  EvalSection schedule_;
  SweepConfig sweep_;
  PointRunner runner_;
  SweepResults results_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Whether a run asks for any evaluation.
bool evaluates(const EvalSection& eval);

}  // namespace carillon
