#include "launch/evaluate/training_evaluator.h"

#include <algorithm>

#include "data/corpus/data_files.h"
#include "launch/evaluate/tasks/task.h"
#include "runtime/foreign_error.h"

namespace carillon {
namespace {

std::string point_key(const std::string& rope, int64_t length, const std::string& task) {
  return Json{rope, length, task}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

bool evaluates(const EvalSection& eval) { return eval.every_steps || eval.every || !eval.at.empty() || eval.at_end; }

TrainingEvaluator::TrainingEvaluator(Backend& backend, ProcessGrid& grid, const ModelConfig& config,
                                     const RunConfig& run, Parameters& weights, const Tokenizer* tokenizer)
    : grid_(grid),
      model_(config),
      schedule_(run.eval),
      sweep_(training_sweep(run)),
      runner_(backend, grid, config, sweep_, tokenizer, "eval.rope", &weights),
      results_(run.output) {}

std::vector<std::string> TrainingEvaluator::foreseen_failures() const {
  std::vector<std::string> failures;
  for (const Json& task : sweep_.tasks) try {
      if (task.contains("data")) find_data_files(data_paths(task, sweep_));
    } catch (const Error& error) {
      failures.push_back(fmt::format("task {} of eval will fail: {}", task["name"].get<std::string>(), error.what()));
    }
  for (const auto& [name, settings] : sweep_.rope.items()) try {
      merge_model_rope(model_, settings, "eval.rope." + name);
    } catch (const Error& error) {
      failures.push_back(fmt::format("setting {} of eval.rope will fail: {}", name, error.what()));
    }
  return failures;
}

bool TrainingEvaluator::due(int64_t step, bool last) const {
  return (schedule_.every_steps && step % *schedule_.every_steps == 0) ||
         std::find(schedule_.at.begin(), schedule_.at.end(), step) != schedule_.at.end() || (last && schedule_.at_end);
}

bool TrainingEvaluator::due_by_clock() const {
  return schedule_.every &&
         std::chrono::duration<double>(std::chrono::steady_clock::now() - last_).count() >= *schedule_.every;
}

bool TrainingEvaluator::run(int64_t step, const std::function<bool()>& stop,
                            const std::function<void(const std::string&)>& say,
                            const std::function<void(const Json&)>& recorded) {
  last_ = std::chrono::steady_clock::now();
  const std::set<std::string> done = points_done(step);
  for (const auto& [name, settings] : sweep_.rope.items())
    for (const int64_t length : sweep_.lengths)
      for (const Json& task : sweep_.tasks) {
        if (done.contains(point_key(name, length, task["name"]))) continue;
        if (stop()) return false;
        const SweepPoint point{"", sweep_.output, step, "", name, settings, length, task};
        Json record = record_point(point, [&] { return runner_.run(point); });
        // Identified by step, rope, length and task; these records have no sweep point and no model of their own.
        record.erase("point");
        record.erase("model");
        agree(*grid_.world, [&] {
          if (grid_.world->rank() != 0) return;
          results_.append(record);
          recorded(record);
          say(fmt::format("evaluation after step {}: {} {} {}: {}", step, point.rope_name, length,
                          task["name"].get<std::string>(), outcome_of(point, record)));
        });
      }
  return true;
}

std::optional<double> TrainingEvaluator::value(const WatchedMetric& metric, int64_t step) const {
  std::vector<double> found{0, 0};  // the value, and whether it exists
  agree(*grid_.world, [&] {
    if (grid_.world->rank() != 0) return;
    const WorkingOn here(sweep_.output + "/evals.jsonl");
    if (const auto value = metric.value_in(results_.read_lines(), step)) found = {*value, 1};
  });
  grid_.world->broadcast(Tensor::of(found, {2}), 0);
  return found[1] != 0 ? std::optional(found[0]) : std::nullopt;
}

std::set<std::string> TrainingEvaluator::points_done(int64_t step) const {
  std::string lines;
  agree(*grid_.world, [&] {
    if (grid_.world->rank() != 0) return;
    const WorkingOn here(sweep_.output + "/evals.jsonl");
    for (const Json& record : results_.read_lines())
      if (record.value("step", Json()) == step && record.value("status", "") == "ok")
        lines +=
            point_key(record.value("rope_name", ""), record.value("length", int64_t{0}), record.value("task", "")) +
            '\n';
  });
  lines = broadcast_text(*grid_.world, lines);
  std::set<std::string> done;
  for (size_t at = 0; at < lines.size();) {
    const size_t end = lines.find('\n', at);
    done.insert(lines.substr(at, end - at));
    at = end + 1;
  }
  return done;
}

}  // namespace carillon
