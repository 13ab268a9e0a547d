// Finds the layouts of a run that are fastest on a machine. Tries all data × context × tensor × ZeRO × recompute that
// take the same number of sequences per step, excludes those that are impossible or do not fit, and sorts by speed. A
// layout that does not fit a GPU is tried again with checkpoints, optimizer state or both in host memory. The MLP's
// tile is the run's.
#pragma once

#include <vector>

#include "launch/plan/memory_plan.h"
#include "launch/plan/time_plan.h"

namespace carillon {

struct PlannedLayout {
  PlannedRun run;
  int64_t peak = 0;  // bytes of the fullest rank
  int64_t host = 0;  // bytes of host memory per rank
  StepTime time;
};

struct LayoutSearch {
  std::vector<PlannedLayout> best;  // by decreasing tokens per second
  int tried = 0;
  int impossible = 0;  // because of heads, length, or more data ranks than sequences per step
  int too_large = 0;   // of the possible ones, because of memory
};

// Returns at most `count` layouts: the best of each grid first, then, if there are fewer grids, their next best. `run`
// gives length, type, micro-batch and layout. Every layout keeps `sequences` per step by its accumulation.
LayoutSearch search_layouts(const ModelConfig& model, const PlannedRun& run, int64_t sequences,
                            const PlannedMachine& machine, const MemoryPlan& memory, size_t count = 5);

}  // namespace carillon
