#include "launch/evaluate/watched_metric.h"

#include <algorithm>
#include <cmath>

#include "launch/evaluate/tasks/task.h"
#include "launch/evaluate/training_evaluator.h"
#include "runtime/text.h"

namespace carillon {

WatchedMetric::WatchedMetric(const std::string& metric, const RunConfig& run, const SweepConfig& sweep)
    : name_(metric) {
  constexpr const char* kWhere = "in checkpoint.best.metric";
  const size_t dot = metric.find('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == metric.size())
    fail(ExitCode::kUsage, "{} is not a metric, {}, write TASK.METRIC such as validation.loss", printable(metric),
         kWhere);
  task_ = metric.substr(0, dot);
  metric_ = metric.substr(dot + 1);
  if (!evaluates(run.eval))
    fail(ExitCode::kUsage, "{} is never measured, {}, set eval.every_steps", printable(metric), kWhere);
  const auto find = [&](const auto& fits) { return std::find_if(sweep.tasks.begin(), sweep.tasks.end(), fits); };
  auto task = find([&](const Json& each) { return each["name"] == task_; });
  if (task == sweep.tasks.end() && task_ == "validation")
    task = find([](const Json& each) { return each["task"] == "perplexity" && each["data"].is_null(); });
  if (task == sweep.tasks.end())
    fail(ExitCode::kUsage, "{} names no task of eval.tasks, {}, {}", printable(metric), kWhere,
         task_ == "validation" ? "add {task: perplexity}, which reads data.validation" : "use the name of one");
  task_ = (*task)["name"].get<std::string>();
  rope_ = sweep.rope.items().begin().key();
  length_ = *std::max_element(sweep.lengths.begin(), sweep.lengths.end());
  const TaskKind& kind = task_kinds().at((*task)["task"].get<std::string>());
  const auto has = [&](const std::vector<std::string>& names) {
    return std::ranges::find(names, metric_) != names.end();
  };
  higher_ = has(kind.better_higher);
  if (higher_ || has(kind.better_lower)) return;
  std::vector<std::string> names = kind.better_lower;
  names.insert(names.end(), kind.better_higher.begin(), kind.better_higher.end());
  fail(ExitCode::kUsage, "task {} has no metric {}, {}, use one of {}", task_, metric_, kWhere, join(names, ", "));
}

std::optional<double> WatchedMetric::value_in(const std::vector<Json>& records, int64_t step) const {
  std::optional<double> value;
  for (const Json& record : records) {
    if (record.value("step", Json()) != step || record.value("task", "") != task_ ||
        record.value("rope_name", "") != rope_ || record.value("length", int64_t{0}) != length_ ||
        record.value("status", "") != "ok")
      continue;
    const Json metrics = record.value("metrics", Json::object());
    const auto found = metrics.find(metric_);
    value = found != metrics.end() && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
  }
  return value;
}

bool BestSoFar::judge(const WatchedMetric& watched, std::optional<double> figure, int64_t at_step, double min_delta) {
  if (at_step <= judged_step) return false;
  judged_step = at_step;
  metric = watched.name();
  if (figure && !std::isfinite(*figure)) figure = std::nullopt;
  const bool gains = figure && (!mark || (watched.better(*figure, *mark) && std::abs(*figure - *mark) > min_delta));
  without_gain = gains ? 0 : without_gain + 1;
  if (gains) mark = figure;
  if (!figure || (value && !watched.better(*figure, *value))) return false;
  value = figure;
  step = at_step;
  return true;
}

}  // namespace carillon
