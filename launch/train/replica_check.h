// Whether tensors that should be the same on several ranks are: weights over data × context ranks, norms and replicated
// heads over tensor ranks too, optimizer state where ZeRO does not split it. A machine that computes wrongly, a memory
// cell that flips or a mistake of ours makes replicas drift apart without a word; the loss, which is a sum over all of
// them, says nothing. Asked before every checkpoint, so that none is written from ranks that disagree.
//
// Cost: one pass over a rank's weights and optimizer state (hash_rectangle: 5 to 29 GB/s a core; a device's come to the
// host first) and 32 bytes a tensor and group on the wire.
#pragma once

#include <vector>

#include "parallel/process_grid.h"
#include "parallel/shard.h"

namespace carillon {

// Collective; `shards` in the same order on every rank (checkpoint_shards). InternalError on every rank, naming the
// tensor and the ranks that have another one than most.
void require_equal_replicas(ProcessGrid& grid, const std::vector<NamedShard>& shards);

}  // namespace carillon
