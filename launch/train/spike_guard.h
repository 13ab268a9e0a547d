// Detects a loss far above those before it: a bad batch, a broken machine, a run about to diverge. The loss is compared
// with the median of the last accepted losses, which a single outlier does not move; spikes and non-finite losses never
// enter the window.
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

  // Whether `loss` exceeds factor times the window's median. Always false until half the window is filled.
  bool is_spike(double loss) const;
  void accept(double loss);
  double median() const;  // of the window; 0 while it is empty

  // Saved in checkpoints, so that a resumed run judges like an uninterrupted one.
  std::vector<double> window() const { return {window_.begin(), window_.end()}; }
  void set_window(const std::vector<double>& losses);

 private:
  SpikeSection spike_;
  std::deque<double> window_;
};

}  // namespace carillon
