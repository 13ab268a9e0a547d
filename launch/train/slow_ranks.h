// Which rank holds the others up: each rank's own work in a step (its wall time less what it waited for others),
// compared over the ranks every kWindow steps. One slow step is chance (another process, a page fault); a rank is named
// when the median of its steps is a fifth above the ranks' median in two windows in a row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

struct SlowRank {
  int rank = 0;
  std::string host;
  double times = 0;  // the median of the ranks
};

class SlowRanks {
 public:
  static constexpr size_t kWindow = 25;  // steps
  static constexpr double kSlow = 1.2;

  // A step of this rank. When a window is full: compares; nothing otherwise, or when no rank is slow. Collective, every
  // rank gives the same number of steps; the answer is the same on all.
  std::optional<SlowRank> add(Communicator& world, double own_seconds);

 private:
  std::vector<double> steps_;
  int suspect_ = -1;   // slow in the window before
  int reported_ = -1;  // named already; again only after a window in which it was not
};

}  // namespace carillon
