// Which of the devices it sees a rank computes on.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "parallel/transport/node_map.h"

namespace carillon {

// A device's UUID: the same device has the same on every rank, whatever number it has there.
using DeviceId = std::array<int64_t, 2>;

// For ranks of one node, each with the devices it sees in its own numbering: an index into each rank's list, so that no
// two have one device where that can be (a maximum matching; ranks that all see the same get 0, 1, 2 …). A rank for
// which none is left gets an index beyond its list, or with `share` the device with the fewest ranks.
std::vector<int> assign_devices(const std::vector<std::vector<DeviceId>>& visible, bool share);

// This rank's among those it sees. Ranks of a node are told apart by the devices' UUIDs, since every rank may see one
// device only, and it as number 0: a launcher that gives each task its own (Slurm's --gpus-per-task, with cgroups or
// CUDA_VISIBLE_DEVICES). `visible` empty: the rank will not compute on one. Collective.
int device_index(Communicator& world, const NodeMap& nodes, const std::vector<DeviceId>& visible, bool share);

}  // namespace carillon
