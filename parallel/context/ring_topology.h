// Chooses whether the context ranks form one ring, or rings inside nodes and one between nodes, by where the ranks are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/process_grid.h"

namespace carillon {

// auto: two levels if every ring of the grid spans more than one node, evenly and in order, with more than one of its
// ranks on each; otherwise flat.
enum class RingKind { kAuto, kFlat, kTwoLevel };

struct RingChoice {
  RingKind kind = RingKind::kAuto;
  int inner = 0;  // ranks of an inner ring, with kTwoLevel; 0: as many as share a node
};

// Returns GridShape::ring_inner for ranks on these nodes (NodeMap::node_of_rank); 0 means one ring. Fails with error 64
// if two levels are requested without a number and the ranks do not lie that way, or if the number does not divide the
// context ranks.
int ring_inner(RingChoice choice, GridShape shape, const std::vector<int64_t>& nodes);

// The ranks of a ring that `rank` sends blocks to in every pass, and those it receives from: its neighbours and, with
// two levels, its counterparts on the next nodes. Gradients that go straight home may go to any rank.
struct RingPartners {
  std::vector<int> to, from;
};
RingPartners ring_partners(GridShape shape, int rank);

// "flat ring" or "ring of 4 ranks in each of 2".
std::string describe_ring(GridShape shape);

}  // namespace carillon
