#include "launch/plan/layout_search.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace carillon {
namespace {

bool possible(const ModelConfig& model, const PlannedRun& run) {
  try {
    require_tensor_parallel(model, run.grid.tensor);
    (void)run.layout();
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<int> divisors(int64_t n) {
  std::vector<int> result;
  for (int64_t d = 1; d <= n; ++d)
    if (n % d == 0) result.push_back(static_cast<int>(d));
  return result;
}

}  // namespace

LayoutSearch search_layouts(const ModelConfig& model, const PlannedRun& run, int64_t sequences,
                            const PlannedMachine& machine, const MemoryPlan& memory, size_t count) {
  LayoutSearch search;
  const int64_t ranks = machine.ranks();
  std::vector<PlannedLayout> found;
  for (const int tensor : divisors(ranks))
    for (const int context : divisors(ranks / tensor)) {
      PlannedRun candidate = run;
      candidate.grid = {static_cast<int>(ranks / tensor / context), context, tensor};
      try {
        candidate.grid = with_ring(candidate.grid, run.ring, machine.ranks_per_node);
      } catch (const Error&) {  // two levels requested for a ring that cannot have them: the run would refuse it
        search.tried += 9, search.impossible += 9;
        continue;
      }
      const int64_t at_once = candidate.network.batch * candidate.grid.data;
      candidate.accumulation = sequences / at_once;
      const bool works = sequences % at_once == 0 && possible(model, candidate);
      for (const int zero : {0, 1, 2})
        for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
          // With one shard the ZeRO stages are equal.
          if (candidate.grid.data * context == 1 && zero != 1) continue;
          ++search.tried;
          if (!works) {
            ++search.impossible;
            continue;
          }
          candidate.network.optimizer.zero = zero;
          candidate.network.recompute = recompute;
          candidate.network.mlp_tile = recompute == Recompute::kNone ? 0 : run.network.mlp_tile;
          // Offloading is never faster, so it is tried only if it is needed.
          bool first = true;
          for (const Offload offload : {Offload::kNone, Offload::kCheckpoints, Offload::kOptimizer, Offload::kAll}) {
            if (offload != Offload::kNone && machine.profile.device == "cpu") break;
            if (offloads_checkpoints(offload) && recompute == Recompute::kNone) continue;
            candidate.network.offload = offload;
            search.tried += first ? 0 : 1;
            first = false;
            const RankMemory rank = memory.rank(candidate, 0);
            if (machine.fits(rank.total, rank.host)) {
              found.push_back({candidate, rank.total, rank.host, plan_step(model, candidate, machine)});
              break;
            }
            ++search.too_large;
          }
        }
    }
  const auto faster = [](const PlannedLayout& a, const PlannedLayout& b) {
    // Prefers less memory if equally fast.
    return std::tuple(-a.time.tokens_per_second, a.peak) < std::tuple(-b.time.tokens_per_second, b.peak);
  };
  std::stable_sort(found.begin(), found.end(), faster);
  std::set<std::pair<int, int>> grids;
  std::vector<PlannedLayout> rest;
  for (PlannedLayout& layout : found) {
    const bool fresh = grids.emplace(layout.run.grid.context, layout.run.grid.tensor).second;
    if (fresh && search.best.size() < count)
      search.best.push_back(std::move(layout));
    else if (!fresh)
      rest.push_back(std::move(layout));
  }
  for (PlannedLayout& layout : rest)
    if (search.best.size() < count) search.best.push_back(std::move(layout));
  std::stable_sort(search.best.begin(), search.best.end(), faster);
  return search;
}

}  // namespace carillon
