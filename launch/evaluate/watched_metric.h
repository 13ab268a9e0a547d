// The metric of a run's evaluations that decides which checkpoint is the best and when training stops early:
// `checkpoint.best.metric`, TASK.METRIC.
//   validation.loss    the loss of the task named validation, or else of the first perplexity task that reads
//                      data.validation
//   passkey.accuracy   a metric of the task of that name
// The longest of several lengths and the first of several rope settings are used. Whether lower or higher is better is
// declared with the task (tasks/task.h).
#pragma once

#include <optional>
#include <string>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

class WatchedMetric {
 public:
  // `sweep`: what the run evaluates (training_sweep). Throws error 64 naming checkpoint.best.metric if there is no such
  // task or metric, or nothing is evaluated.
  WatchedMetric(const std::string& metric, const RunConfig& run, const SweepConfig& sweep);

  const std::string& name() const { return name_; }
  bool better(double value, double than) const { return higher_ ? value > than : value < than; }
  // Returns the value in the last successful record (evals.jsonl) that matches; nothing if there is none or no number.
  std::optional<double> value_in(const std::vector<Json>& records, int64_t step) const;

 private:
  std::string name_, task_, metric_, rope_;
  int64_t length_ = 0;
  bool higher_ = false;
};

// The history of that metric, as checkpoints store it.
struct BestSoFar {
  std::string metric;           // its name; empty: nothing was judged
  std::optional<double> value;  // the best so far
  int64_t step = 0;             // its step
  std::optional<double> mark;   // the last value that improved on the previous mark by more than min_delta
  int64_t without_gain = 0;     // evaluations since the mark
  int64_t judged_step = 0;      // the last evaluation that counted; evaluations are not counted twice

  // Judges the value of a step. A missing or non-finite value is no gain. Returns whether it is the best so far.
  bool judge(const WatchedMetric& watched, std::optional<double> figure, int64_t at_step, double min_delta);
};

}  // namespace carillon
