#include "launch/train/slow_ranks.h"

#include <algorithm>

#include "launch/session/process_id.h"

namespace carillon {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

std::optional<SlowRank> SlowRanks::add(Communicator& world, double own_seconds) {
  if (world.size() == 1) return std::nullopt;
  steps_.push_back(own_seconds);
  if (steps_.size() < kWindow) return std::nullopt;
  double mine = median(std::move(steps_));
  steps_.clear();
  std::vector<double> all(static_cast<size_t>(world.size()));
  world.all_gather(Tensor::of(all, {world.size()}), Tensor(&mine, DType::kFloat64, {1}));
  const double typical = median(all);
  const auto slowest = std::max_element(all.begin(), all.end());
  const int rank = static_cast<int>(slowest - all.begin());
  const bool slow = typical > 0 && *slowest > kSlow * typical;
  const bool again = slow && rank == suspect_;
  suspect_ = slow ? rank : -1;
  if (!slow) reported_ = -1;
  if (!again || rank == reported_) return std::nullopt;
  reported_ = rank;
  return SlowRank{rank, broadcast_text(world, host_name(), rank), *slowest / typical};
}

}  // namespace carillon
