// Whether the ring of context ranks is one, or rings inside nodes and one between them: from where the ranks are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/process_grid.h"

namespace carillon {

// auto: two levels where every ring of the grid lies on more than one node, evenly and in order, with more than one of
// its ranks on each; flat elsewhere.
enum class RingKind { kAuto, kFlat, kTwoLevel };

struct RingChoice {
  RingKind kind = RingKind::kAuto;
  int inner = 0;  // ranks of an inner ring, with kTwoLevel; 0: those of a node
};

// GridShape::ring_inner for ranks on these nodes (NodeMap::node_of_rank); 0 for one ring. Error 64 when two levels are
// asked for, without a number, of ranks that do not lie that way, and for a number that does not divide the context
// ranks.
int ring_inner(RingChoice choice, GridShape shape, const std::vector<int64_t>& nodes);

// The ranks of a ring that `rank` sends blocks to in every pass, and those it receives from: its neighbours, and in two
// levels its counterparts on the next nodes. What goes straight home may go to any rank.
struct RingPartners {
  std::vector<int> to, from;
};
RingPartners ring_partners(GridShape shape, int rank);

// "flat ring", "ring of 4 ranks in each of 2".
std::string describe_ring(GridShape shape);

}  // namespace carillon
