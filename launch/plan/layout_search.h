// Which layouts of a run a machine would rather have: all data × context × tensor × ZeRO × recompute that take the same
// sequences a step, without those that cannot be or do not fit, fastest first. What does not fit a GPU is tried again
// with checkpoints, optimizer state and both in host memory; the MLP's tile is the run's.
#pragma once

#include <vector>

#include "launch/plan/memory_plan.h"
#include "launch/plan/time_plan.h"

namespace carillon {

struct PlannedLayout {
  PlannedRun run;
  int64_t peak = 0;  // bytes of the fullest rank
  int64_t host = 0;  // of host memory, a rank
  StepTime time;
};

struct LayoutSearch {
  std::vector<PlannedLayout> best;  // tokens a second, falling
  int tried = 0;
  int impossible = 0;  // heads, length, or more data ranks than sequences a step
  int too_large = 0;   // of those left, by memory
};

// At most `count`: the best of each grid first, and where there are fewer grids their next best. `run` gives length,
// type, micro-batch and layout; `sequences` those of a step, which every layout keeps by its accumulation.
LayoutSearch search_layouts(const ModelConfig& model, const PlannedRun& run, int64_t sequences,
                            const PlannedMachine& machine, const MemoryPlan& memory, size_t count = 5);

}  // namespace carillon
