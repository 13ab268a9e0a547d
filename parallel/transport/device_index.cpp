#include "parallel/transport/device_index.h"

#include <cstdlib>
#include <string>

namespace carillon {

int device_index(Communicator& world, const NodeMap& nodes) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  auto own = static_cast<int64_t>(std::hash<std::string>{}(visible == nullptr ? "all" : visible));
  std::vector<int64_t> all(static_cast<size_t>(world.size()));
  world.all_gather(Tensor::of(all, {world.size()}), Tensor(&own, DType::kInt64, {1}));
  int index = 0;
  for (size_t other = 0; other < static_cast<size_t>(world.rank()); ++other)
    index += nodes.node_of_rank[other] == nodes.node() && all[other] == own;
  return index;
}

}  // namespace carillon
