// Machines to plan for: a profile's rates, and how many nodes and ranks of it there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "launch/machine/machine_profile.h"

namespace carillon {

struct PlannedMachine {
  MachineProfile profile;
  int64_t nodes = 1;
  int64_t ranks_per_node = 1;
  int threads = 1;  // of a rank, CPU only

  int64_t ranks() const { return nodes * ranks_per_node; }
  // Host memory a rank's share of its node may take (0.8 of it: page-locked memory is not to be had whole); no limit
  // where the profile names none, and on a CPU, whose memory is counted as its own.
  int64_t usable_host_bytes() const {
    return profile.device == "cpu" || profile.host_memory_bytes == 0
               ? std::numeric_limits<int64_t>::max()
               : profile.host_memory_bytes / 10 * 8 / std::min(ranks_per_node, ranks());
  }
  // What a plan may fill: the rest is left to the allocator's fragments and to what no formula knows.
  int64_t usable_bytes() const { return profile.memory_bytes / 100 * 92; }
  bool fits(int64_t bytes, int64_t host_bytes) const {
    return (profile.memory_bytes == 0 || bytes <= usable_bytes()) && host_bytes <= usable_host_bytes();
  }
  bool crosses_nodes(int64_t span) const { return span > ranks_per_node; }
  // Between ranks of which the first and the last are `span - 1` apart. Where the link between nodes was not measured
  // (a profile of one node), the one inside a node.
  const Link& link(int64_t span) const {
    return crosses_nodes(span) && profile.between_nodes.bytes_per_second > 0 ? profile.between_nodes
                                                                             : profile.within_node;
  }
};

}  // namespace carillon
