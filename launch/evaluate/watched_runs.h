// Decides for `watch: true` when no more checkpoints will come. A run has ended if it says so (the file `ended`,
// written after the last step and after a failure that another start would only repeat) or if its folder is gone. A run
// that has not begun, waits in a queue, or died silently is waited for up to `watch_patience`; the wait restarts
// whenever the run is active or something in its folder changes.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

class WatchedRuns {
 public:
  explicit WatchedRuns(const SweepConfig& config) : config_(config) {}

  // Whether no model of the sweep will get more checkpoints.
  bool ended();
  // Returns a line for each run that did not report its end.
  std::vector<std::string> given_up() const;

 private:
  enum class State { kWaiting, kEnded, kGone, kGivenUp };
  struct Run {
    bool seen = false;  // its folder existed
    std::string look;   // the folder's state at the last look
    std::chrono::steady_clock::time_point moved = std::chrono::steady_clock::now();
    State state = State::kWaiting;
  };
  State state_of(const std::string& model, Run& run) const;

  const SweepConfig& config_;
  std::map<std::string, Run> runs_;
};

}  // namespace carillon
