// What prevents a planned run or makes it slow. Each limit gives the numbers and the nearest values that hold.
#pragma once

#include <string>
#include <vector>

#include "launch/config/schema.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/time_plan.h"

namespace carillon {

struct Limit {
  std::string name;    // heads | world | length | offload | memory | host | ring | vocabulary | padding | nodes | rope
  bool fatal = false;  // the run is impossible: `carillon plan` exits with 64
  std::string text;    // WHAT, WHERE, WHAT TO DO
  Json remedies = Json::array();  // memory, host: {"change", "peak_bytes", "host_bytes", "fits"}
};

// Returns the limits that a grid can violate before anything is measured: ranks, heads, key/value heads, length. All
// are fatal; if there is one, the plan has neither memory nor time. `grid` is set if the ranks can be laid out.
std::vector<Limit> limits_of_layout(const RunConfig& config, const ModelConfig& model, int64_t ranks,
                                    std::optional<GridShape>& grid);

// Returns the limits that require memory and time to be known.
std::vector<Limit> limits_of_run(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                                 const MemoryPlan& memory, const RankMemory& fullest, int64_t longest,
                                 const StepTime& time);

}  // namespace carillon
