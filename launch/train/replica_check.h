// Checks that tensors which should be equal on several ranks are: weights over data × context ranks, norms and
// replicated heads over tensor ranks too, optimizer state unless ZeRO splits it. A machine that computes wrongly, a
// flipped memory cell or a bug of ours lets replicas drift apart silently; the loss, a sum over all of them, does not
// show it. The check runs before every checkpoint, so that none is written from ranks that disagree.
//
// Cost: one pass over a rank's weights and optimizer state (hash_rectangle: 5 to 29 GB/s per core; device tensors are
// downloaded first) and 32 bytes per tensor and group over the network.
#pragma once

#include <vector>

#include "parallel/process_grid.h"
#include "parallel/shard.h"

namespace carillon {

// Collective; `shards` must be in the same order on every rank (checkpoint_shards). Throws InternalError on every rank,
// naming the tensor and the ranks that differ from the majority.
void require_equal_replicas(ProcessGrid& grid, const std::vector<NamedShard>& shards);

}  // namespace carillon
