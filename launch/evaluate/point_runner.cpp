#include "launch/evaluate/point_runner.h"

#include <algorithm>
#include <chrono>

#include "launch/evaluate/sweep_results.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

// "cannot allocate 12 MiB of host memory (8 MiB are available)", without place and remedy.
std::string first_clause(const std::string& message) { return message.substr(0, message.find(", ")); }

// One token more than the longest window, for PosGen's leading EOS.
int64_t longest(const SweepConfig& config) {
  return *std::max_element(config.lengths.begin(), config.lengths.end()) + 1;
}

Scorer make_scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const SweepConfig& config,
                   Parameters* shared) {
  const DType compute = config.runtime.dtype;
  const LayoutKind layout = config.parallel.layout;
  try {
    if (shared == nullptr) return Scorer(backend, grid, model, compute, layout, longest(config));
    return Scorer(backend, grid, model, compute, layout, longest(config), *shared);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kInputOutput) throw;
    fail(error.code(),
         "a window of {} tokens does not fit ({}), in length or lengths, give shorter ones or more context ranks",
         longest(config) - 1, first_clause(error.what()));
  }
}

}  // namespace

PointRunner::PointRunner(Backend& backend, ProcessGrid& grid, const ModelConfig& model, const SweepConfig& config,
                         const Tokenizer* tokenizer, std::string rope_section, Parameters* shared)
    : grid_(grid),
      model_(model),
      config_(config),
      tokenizer_(tokenizer),
      rope_section_(std::move(rope_section)),
      scorer_(make_scorer(backend, grid, model, config, shared)),
      generator_(backend, grid, model, config.runtime.dtype, config.parallel.layout, parameters()) {}

TaskContext PointRunner::context(const SweepPoint& point) {
  return {*grid_.world, scorer_, generator_, point, config_, tokenizer_, model_};
}

Json PointRunner::run(const SweepPoint& point, const KeyTokens* key_tokens, UnitLosses* units) {
  const Activity activity("an evaluation point");
  const ModelRope rope = merge_model_rope(model_, point.rope, rope_section_ + "." + point.rope_name);
  scorer_.set_rope(rope);
  generator_.set_rope(rope);
  TaskContext task = context(point);
  task.key_tokens = key_tokens;
  task.units = units;
  return run_task(task);
}

Json record_point(const SweepPoint& point, const std::function<Json()>& metrics) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  try {
    const Json found = metrics();
    return record_of(point, found, seconds());
  } catch (const Error& error) {
    // agree() has thrown the same error on every rank, except for these two.
    if (error.code() == ExitCode::kInternal || error.code() == ExitCode::kLostPeer) throw;
    return failure_of(point, error.what(), seconds());
  }
}

std::string outcome_of(const SweepPoint& point, const Json& record) {
  if (record["status"] == "failed") return "failed: " + record["error"].get<std::string>();
  const std::string metric = main_metric(point.task);
  return metric + " " + record["metrics"][metric].dump();
}

}  // namespace carillon
