// Which of its node's devices a rank computes on.
#pragma once

#include "parallel/transport/communicator.h"

namespace carillon {

// This rank's number among the ranks of its node that see the same devices: those with the same CUDA_VISIBLE_DEVICES.
// A launcher that gives every rank a device of its own sets that variable to another value for each, and all get 0.
// Nodes are told apart by MPI (ranks that can share memory); ranks that are threads are one node. Collective.
int device_index(Communicator& world);

}  // namespace carillon
