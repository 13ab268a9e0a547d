#include "launch/config/unused_keys.h"

#include <algorithm>

namespace carillon {
namespace {

// Whether an evaluation is due within `steps` steps.
bool evaluates_before_the_end(const EvalSection& eval, int64_t steps) {
  return (eval.every_steps && *eval.every_steps <= steps) || eval.every || eval.at_end ||
         std::ranges::any_of(eval.at, [&](int64_t step) { return step <= steps; });
}

}  // namespace

std::vector<std::string> unused_keys(const Schema& schema, const RunConfig& config) {
  RunConfig plain;
  Schema defaults;
  declare_run(defaults, plain);
  std::vector<std::string> lines;
  const auto changed = [&](const std::string& name) {
    return schema.given(name) && schema.find(name)->get() != defaults.find(name)->get();
  };
  const auto unused = [&](const std::string& name, const std::string& because, const std::string& remedy) {
    if (changed(name))
      lines.push_back(fmt::format("{} has no effect {}, {}, {}", name, because, schema.where(name), remedy));
  };
  const TrainSection& train = config.train;
  if (train.loss != TrainingLoss::kLongCrossEntropy)
    for (const char* name : {"train.longce.context", "train.longce.stride", "train.longce.largest_weight"})
      unused(name, "without train.loss longce", "add that");
  if (!train.spike.on()) unused("train.spike.window", "without train.spike.factor or action", "add one of them");
  if (!train.early_stopping.patience)
    unused("train.early_stopping.min_delta", "without train.early_stopping.patience", "add that");
  if (train.lr_scheduler != ScheduleKind::kWarmupStableDecay)
    unused("train.decay_ratio", "without train.lr_scheduler wsd", "add that");
  if (train.lr_scheduler == ScheduleKind::kConstant || train.lr_scheduler == ScheduleKind::kOneCycle)
    unused("train.min_lr_ratio",
           "with train.lr_scheduler " + schema.find("train.lr_scheduler")->get()->get<std::string>(),
           "use linear, cosine or wsd");
  const bool scheduled = config.eval.every_steps || config.eval.every || !config.eval.at.empty() || config.eval.at_end;
  for (const char* name : {"eval.tasks", "eval.lengths", "eval.rope"})
    if (!scheduled) unused(name, "without a schedule", "add eval.every_steps, eval.at or eval.at_end");
  if (scheduled && train.max_steps && !evaluates_before_the_end(config.eval, *train.max_steps))
    for (const char* name : {"eval.every_steps", "eval.at"})
      unused(name, fmt::format("within train.max_steps {}", *train.max_steps),
             "add eval.at_end: true, or evaluate earlier");
  return lines;
}

}  // namespace carillon
