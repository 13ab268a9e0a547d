// The one figure of a run's evaluations that decides which checkpoint is the best and when training stops early:
// `checkpoint.best.metric`, TASK.METRIC.
//   validation.loss    the loss of the task called validation, else of the first perplexity task that reads
//                      data.validation
//   passkey.accuracy   a metric of the task of that name
// Of several lengths the longest counts, of several rope settings the first. Accuracies are better when higher,
// everything else when lower.
#pragma once

#include <optional>
#include <string>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

class WatchedMetric {
 public:
  // `sweep`: what the run evaluates (training_sweep). Error 64 naming checkpoint.best.metric where there is no such
  // task or nothing is evaluated.
  WatchedMetric(const std::string& metric, const RunConfig& run, const SweepConfig& sweep);

  const std::string& name() const { return name_; }
  bool better(double value, double than) const { return higher_ ? value > than : value < than; }
  // Of one evaluation's records (evals.jsonl), the last that fits; nothing where it failed or measured nothing.
  std::optional<double> value_in(const std::vector<Json>& records, int64_t step) const;

 private:
  std::string name_, task_, metric_, rope_;
  int64_t length_ = 0;
  bool higher_ = false;
};

// The course of that figure, as a checkpoint keeps it.
struct BestSoFar {
  std::string metric;           // which; empty: nothing was judged
  std::optional<double> value;  // the best of all
  int64_t step = 0;             // of which step
  std::optional<double> mark;   // the last that was better than the mark before by more than min_delta
  int64_t without_gain = 0;     // evaluations since
  int64_t judged_step = 0;      // the last evaluation that counted: one that is only looked at again does not

  // The figure of `step`, which may be missing or not finite: then it is no gain. True when it is the best of all.
  bool judge(const WatchedMetric& watched, std::optional<double> figure, int64_t at_step, double min_delta);
};

}  // namespace carillon
