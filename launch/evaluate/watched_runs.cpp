#include "launch/evaluate/watched_runs.h"

#include <algorithm>
#include <filesystem>

#include "data/checkpoint/checkpoint.h"
#include "launch/session/run_lock.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// What changes while a run is active or is restarted: its newest checkpoint and the size of its records.
std::string look_of(const std::string& model) {
  std::error_code error;
  const auto checkpoints = list_checkpoints(model + "/checkpoints");
  const auto records = fs::file_size(model + "/metrics.jsonl", error);
  return fmt::format("{} {}", checkpoints.empty() ? -1 : checkpoints.front().step, error ? 0 : records);
}

}  // namespace

WatchedRuns::State WatchedRuns::state_of(const std::string& model, Run& run) const {
  std::error_code error;
  if (!fs::exists(model, error)) {
    if (run.seen) return State::kGone;
  } else {
    run.seen = true;
    // A model file, a checkpoint or a Hugging Face folder will not change.
    if (!may_be_run_folder(model) || fs::exists(model + "/ended", error)) return State::kEnded;
    const std::string look = look_of(model);
    if (look != run.look || run_is_active(model)) run.moved = std::chrono::steady_clock::now();
    run.look = look;
  }
  const std::chrono::duration<double> still = std::chrono::steady_clock::now() - run.moved;
  return still.count() > config_.watch_patience ? State::kGivenUp : State::kWaiting;
}

bool WatchedRuns::ended() {
  bool all = true;
  for (const std::string& model : config_.models) {
    Run& run = runs_[model];
    run.state = state_of(model, run);
    all = all && run.state != State::kWaiting;
  }
  return all;
}

std::vector<std::string> WatchedRuns::given_up() const {
  std::vector<std::string> lines;
  for (const auto& [model, run] : runs_) {
    if (run.state == State::kGone) lines.push_back(fmt::format("{} was removed while it was watched", model));
    if (run.state == State::kGivenUp)
      lines.push_back(
          fmt::format("{} has not moved for {:.0f} s and nobody is at work in it: no longer watched "
                      "(watch_patience)",
                      model, config_.watch_patience));
  }
  return lines;
}

}  // namespace carillon
