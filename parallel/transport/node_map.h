// Which ranks share a node: the ring's levels, a rank's device, its share of the processors and the links that are
// measured follow from it. Nodes are told apart by MPI (ranks that can share memory); ranks that are
// threads are on one node, and so is a rank alone.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

struct NodeMap {
  // By rank of the world; nodes are numbered in the order of their first ranks.
  std::vector<int64_t> node_of_rank = {0};
  int rank = 0;  // whose map this is

  int node() const { return static_cast<int>(node_of_rank[static_cast<size_t>(rank)]); }
  int nodes() const;
  // This rank's number among the ranks of its node, and how many they are.
  int local_rank() const;
  int local_ranks() const;
};

// Collective.
NodeMap map_nodes(Communicator& world);

// The same from any numbers that differ from node to node, one for each rank.
NodeMap number_nodes(const std::vector<int64_t>& labels, int rank);

}  // namespace carillon
