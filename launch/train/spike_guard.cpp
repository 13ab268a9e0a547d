#include "launch/train/spike_guard.h"

#include <algorithm>

namespace carillon {

bool SpikeGuard::is_spike(double loss) const {
  if (!spike_.on() || 2 * static_cast<int64_t>(window_.size()) < spike_.window) return false;
  return loss > spike_.factor_or_default() * median();
}

double SpikeGuard::median() const {
  if (window_.empty()) return 0;
  std::vector<double> sorted(window_.begin(), window_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

void SpikeGuard::accept(double loss) {
  if (!spike_.on()) return;
  window_.push_back(loss);
  while (static_cast<int64_t>(window_.size()) > spike_.window) window_.pop_front();
}

void SpikeGuard::set_window(const std::vector<double>& losses) {
  window_.clear();
  for (const double loss : losses) accept(loss);
}

}  // namespace carillon
