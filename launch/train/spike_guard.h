// A loss far above those before it: a bad batch, a broken machine, a run about to diverge. Judged against the median of
// the last accepted losses, which one outlier does not move; a spike or a loss that is not finite never enters it.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "launch/config/run_config.h"

namespace carillon {

class SpikeGuard {
 public:
  explicit SpikeGuard(const SpikeSection& spike) : spike_(spike) {}

  // Whether `loss` is more than factor times the median of the window. Never before half the window is filled.
  bool is_spike(double loss) const;
  void accept(double loss);
  double median() const;  // of the window; 0 while it is empty

  // For the checkpoint: a resumed run judges as the one that was not interrupted.
  std::vector<double> window() const { return {window_.begin(), window_.end()}; }
  void set_window(const std::vector<double>& losses);

 private:
  SpikeSection spike_;
  std::deque<double> window_;
};

}  // namespace carillon
