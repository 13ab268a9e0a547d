// Finds the rank that delays the others: compares each rank's own work in a step (its wall time less the time it waited
// for others) over the ranks every kWindow steps. One slow step may be chance (another process, a page fault); a rank
// is named if the median of its steps exceeds the ranks' median by a fifth in two consecutive windows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

struct SlowRank {
  int rank = 0;
  std::string host;
  double times = 0;  // factor over the median of the ranks
};

class SlowRanks {
 public:
  static constexpr size_t kWindow = 25;  // steps
  static constexpr double kSlow = 1.2;

  // Adds a step of this rank. Compares when a window is full; otherwise, or if no rank is slow, returns nothing.
  // Collective; every rank must add the same number of steps and gets the same answer.
  std::optional<SlowRank> add(Communicator& world, double own_seconds);

 private:
  std::vector<double> steps_;
  int suspect_ = -1;   // slow in the previous window
  int reported_ = -1;  // already named; named again only after a window in which it was not slow
};

}  // namespace carillon
