// A machine to plan for: a profile's rates, and the number of nodes and ranks.
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
  int threads = 1;  // per rank, CPU only

  int64_t ranks() const { return nodes * ranks_per_node; }
  // Host memory that a rank may use of its share of the node: 0.8 of it, because page-locked memory cannot take all. No
  // limit if the profile gives none, or on a CPU, where it is the rank's own memory.
  int64_t usable_host_bytes() const {
    return profile.device == "cpu" || profile.host_memory_bytes == 0
               ? std::numeric_limits<int64_t>::max()
               : profile.host_memory_bytes / 10 * 8 / std::min(ranks_per_node, ranks());
  }
  // What a plan may fill. The rest is left for fragmentation and for what no formula covers.
  int64_t usable_bytes() const { return profile.memory_bytes / 100 * 92; }
  bool fits(int64_t bytes, int64_t host_bytes) const {
    return (profile.memory_bytes == 0 || bytes <= usable_bytes()) && host_bytes <= usable_host_bytes();
  }
  bool crosses_nodes(int64_t span) const { return span > ranks_per_node; }
  // The link between ranks of which the first and the last are `span - 1` apart. If the link between nodes was not
  // measured (a profile of one node), the one within a node.
  const Link& link(int64_t span) const {
    return crosses_nodes(span) && profile.between_nodes.bytes_per_second > 0 ? profile.between_nodes
                                                                             : profile.within_node;
  }
};

}  // namespace carillon
