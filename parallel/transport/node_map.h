// Which ranks share a node. The ring's levels, a rank's device, its share of the processors and the links that are
// measured follow from this. MPI tells nodes apart (ranks that can share memory). Ranks that are threads are on one
// node, and so is a single rank.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

struct NodeMap {
  // Indexed by rank of the world; nodes are numbered in the order of their first ranks.
  std::vector<int64_t> node_of_rank = {0};
  int rank = 0;  // the rank this map belongs to

  int node() const { return static_cast<int>(node_of_rank[static_cast<size_t>(rank)]); }
  int nodes() const;
  // This rank's index among the ranks of its node, and their number.
  int local_rank() const;
  int local_ranks() const;
};

// Collective.
NodeMap map_nodes(Communicator& world);

// The same from arbitrary labels, one per rank, that differ between nodes.
NodeMap number_nodes(const std::vector<int64_t>& labels, int rank);

}  // namespace carillon
