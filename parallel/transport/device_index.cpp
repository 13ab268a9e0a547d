#include "parallel/transport/device_index.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

namespace carillon {

std::vector<int> assign_devices(const std::vector<std::vector<DeviceId>>& visible, bool share) {
  std::map<DeviceId, size_t> holder;  // rank by device
  std::vector<int> index(visible.size(), -1);
  std::vector<DeviceId> tried;
  // Finds a device for the rank: a free one, or one held by a rank that can move to another (Kuhn, 1955).
  const std::function<bool(size_t)> find = [&](size_t rank) {
    for (const bool move_others : {false, true})
      for (size_t i = 0; i < visible[rank].size(); ++i) {
        const DeviceId& device = visible[rank][i];
        const auto held = holder.find(device);
        if (held != holder.end()) {
          if (!move_others || std::find(tried.begin(), tried.end(), device) != tried.end()) continue;
          tried.push_back(device);
          if (!find(held->second)) continue;
        }
        holder[device] = rank;
        index[rank] = static_cast<int>(i);
        return true;
      }
    return false;
  };
  std::map<DeviceId, int> ranks;
  for (size_t rank = 0; rank < visible.size(); ++rank) {
    tried.clear();
    find(rank);
  }
  for (const auto& [device, rank] : holder) ranks[device] = 1;
  for (size_t rank = 0; rank < visible.size(); ++rank) {
    if (index[rank] >= 0) continue;
    index[rank] = static_cast<int>(visible[rank].size());
    if (!share || visible[rank].empty()) continue;
    const auto least = std::min_element(visible[rank].begin(), visible[rank].end(),
                                        [&](const DeviceId& a, const DeviceId& b) { return ranks[a] < ranks[b]; });
    index[rank] = static_cast<int>(least - visible[rank].begin());
    ++ranks[*least];
  }
  return index;
}

int device_index(Communicator& world, const NodeMap& nodes, const std::vector<DeviceId>& visible, bool share) {
  const auto size = static_cast<size_t>(world.size());
  auto own = static_cast<int64_t>(visible.size());
  std::vector<int64_t> counts(size);
  world.all_gather(Tensor::of(counts, {world.size()}), Tensor(&own, DType::kInt64, {1}));
  const int64_t all = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (all == 0) return nodes.local_rank();
  std::vector<int64_t> numbers(static_cast<size_t>(2 * all)), mine;
  for (const DeviceId& device : visible) mine.insert(mine.end(), device.begin(), device.end());
  world.all_gather(Tensor::of(numbers, {all, 2}), Tensor::of(mine, {own, 2}), counts);
  std::vector<std::vector<DeviceId>> of_node;
  size_t me = 0, at = 0;
  for (size_t rank = 0; rank < size; ++rank) {
    std::vector<DeviceId> devices;
    for (int64_t i = 0; i < counts[rank]; ++i, at += 2) devices.push_back({numbers[at], numbers[at + 1]});
    if (nodes.node_of_rank[rank] != nodes.node()) continue;
    if (static_cast<int>(rank) == world.rank()) me = of_node.size();
    of_node.push_back(std::move(devices));
  }
  return assign_devices(of_node, share)[me];
}

}  // namespace carillon
