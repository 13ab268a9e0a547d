// Assigns each rank one of the devices it sees.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "parallel/transport/node_map.h"

namespace carillon {

// A device's UUID: it is the same on every rank, whatever index the device has there.
using DeviceId = std::array<int64_t, 2>;

// For the ranks of one node, each with the devices it sees in its own numbering: returns an index into each rank's
// list, chosen so that no two ranks share a device if that is possible (a maximum matching; ranks that all see the same
// devices get 0, 1, 2 …). A rank left without a device gets an index past the end of its list or, with `share`, the
// device with the fewest ranks.
std::vector<int> assign_devices(const std::vector<std::vector<DeviceId>>& visible, bool share);

// Returns the index of this rank's device among those it sees. The ranks of a node compare UUIDs, because each rank may
// see a single device, as number 0: some launchers give each task its own (Slurm's --gpus-per-task, with cgroups or
// CUDA_VISIBLE_DEVICES). An empty `visible` means that the rank will not compute on a device. Collective.
int device_index(Communicator& world, const NodeMap& nodes, const std::vector<DeviceId>& visible, bool share);

}  // namespace carillon
