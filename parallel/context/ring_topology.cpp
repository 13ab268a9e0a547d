#include "parallel/context/ring_topology.h"

#include <algorithm>

#include "parallel/context/ring_schedule.h"
#include "runtime/error.h"

namespace carillon {
namespace {

// Context ranks per node if the ring's nodes are contiguous runs of equal length, otherwise 0.
int even_run(const std::vector<int64_t>& nodes) {
  size_t run = 1;
  while (run < nodes.size() && nodes[run] == nodes[0]) ++run;
  if (nodes.size() % run != 0) return 0;
  std::vector<int64_t> distinct;
  for (size_t begin = 0; begin < nodes.size(); begin += run) {
    for (size_t i = begin; i < begin + run; ++i)
      if (nodes[i] != nodes[begin]) return 0;
    distinct.push_back(nodes[begin]);
  }
  std::sort(distinct.begin(), distinct.end());
  return std::adjacent_find(distinct.begin(), distinct.end()) == distinct.end() ? static_cast<int>(run) : 0;
}

}  // namespace

int ring_inner(RingChoice choice, GridShape shape, const std::vector<int64_t>& nodes) {
  if (choice.kind == RingKind::kFlat || (shape.context == 1 && choice.inner == 0)) return 0;
  if (choice.inner > 0) {
    if (shape.context % choice.inner != 0)
      fail(ExitCode::kUsage,
           "parallel.ring_inner {} does not divide parallel.context {}, in the configuration, use a divisor",
           choice.inner, shape.context);
    return choice.inner == shape.context ? 0 : choice.inner;
  }
  int inner = -1;
  for (int data = 0; data < shape.data; ++data)
    for (int tensor = 0; tensor < shape.tensor; ++tensor) {
      std::vector<int64_t> ring;
      for (int context = 0; context < shape.context; ++context)
        ring.push_back(nodes.at(static_cast<size_t>((data * shape.context + context) * shape.tensor + tensor)));
      const int own = even_run(ring);
      inner = inner == -1 || inner == own ? own : 0;
    }
  if (inner > 1 && inner < shape.context) return inner;
  if (choice.kind == RingKind::kTwoLevel)
    fail(ExitCode::kUsage,
         "the {} context ranks of a ring do not lie on several nodes with as many, more than one, on each, in "
         "parallel.ring, use auto, or say parallel.ring_inner",
         shape.context);
  return 0;
}

RingPartners ring_partners(GridShape shape, int rank) {
  RingPartners partners;
  if (shape.context == 1) return partners;
  const RingSchedule ring(shape.context, shape.ring_inner);
  const auto add = [&](std::vector<int>& to, int other) {
    if (other != rank && std::find(to.begin(), to.end(), other) == to.end()) to.push_back(other);
  };
  add(partners.to, ring.below(rank)), add(partners.from, ring.above(rank));
  if (ring.stages() > 1) add(partners.to, ring.outer_below(rank)), add(partners.from, ring.outer_above(rank));
  return partners;
}

std::string describe_ring(GridShape shape) {
  if (shape.ring_inner == 0) return "flat ring";
  return fmt::format("ring of {} ranks in each of {}", shape.ring_inner, shape.context / shape.ring_inner);
}

}  // namespace carillon
