// `watch: true`: when no more checkpoints will come. A run has ended when it says so (the file `ended`, written after
// the last step and after a failure that another start would only repeat), or when its folder is gone. A run that has
// not begun, waits in a queue, or died without a word is waited for as long as `watch_patience` says, counted again
// whenever it is at work or something in its folder changes.
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

  // Whether no more checkpoints will come from any model of the sweep.
  bool ended();
  // A line for each run whose end was not its own word.
  std::vector<std::string> given_up() const;

 private:
  enum class State { kWaiting, kEnded, kGone, kGivenUp };
  struct Run {
    bool seen = false;  // its folder was there
    std::string look;   // what was there at the last look
    std::chrono::steady_clock::time_point moved = std::chrono::steady_clock::now();
    State state = State::kWaiting;
  };
  State state_of(const std::string& model, Run& run) const;

  const SweepConfig& config_;
  std::map<std::string, Run> runs_;
};

}  // namespace carillon
