// What prevents a planned run, or only costs it: each limit names the numbers and the nearest values that
// hold.
#pragma once

#include <string>
#include <vector>

#include "launch/config/schema.h"
#include "launch/plan/memory_plan.h"
#include "launch/plan/time_plan.h"

namespace carillon {

struct Limit {
  std::string name;    // heads | world | length | offload | memory | host | ring | vocabulary | padding | nodes | rope
  bool fatal = false;  // the run cannot be: `carillon plan` ends with 64
  std::string text;    // WHAT, WHERE, WHAT TO DO
  Json remedies = Json::array();  // memory, host: {"change", "peak_bytes", "host_bytes", "fits"}
};

// Limits a grid can break before anything is measured: ranks, heads, key/value heads, length. Fatal all of them; with
// any, the run has neither memory nor time. `grid` is set when the ranks can be laid out.
std::vector<Limit> limits_of_layout(const RunConfig& config, const ModelConfig& model, int64_t ranks,
                                    std::optional<GridShape>& grid);

// Those that show only when memory and time are known.
std::vector<Limit> limits_of_run(const ModelConfig& model, const PlannedRun& run, const PlannedMachine& machine,
                                 const MemoryPlan& memory, const RankMemory& fullest, int64_t longest,
                                 const StepTime& time);

}  // namespace carillon
