// Which of its node's devices a rank computes on.
#pragma once

#include "parallel/transport/node_map.h"

namespace carillon {

// This rank's number among the ranks of its node that see the same devices: those with the same CUDA_VISIBLE_DEVICES.
// A launcher that gives every rank a device of its own sets that variable to another value for each, and all get 0.
// Collective.
int device_index(Communicator& world, const NodeMap& nodes);

}  // namespace carillon
