// The transport of device tensors that a run takes: NCCL out of the device's library (libcarillon_cuda.so), or host
// memory where that library has none.
#pragma once

#include <string>

#include "parallel/transport/device_communicator.h"

namespace carillon {

// A MakeTransport. CARILLON_DEVICE_TRANSPORT=nccl or staged decides; otherwise NCCL, if every rank has it. Error 64
// when it is asked for and missing on some rank, or the variable holds another word. Collective over `host`.
std::unique_ptr<DeviceTransport> make_device_transport(Backend& backend, Communicator& host);

// Device memory that NCCL's buffers for these groups take, by the sizes in its sources: a connection of a channel holds
// 4 MiB for its simple protocol, 4.7 MiB for LL128 and half a MiB for LL; a channel has three of them for reductions
// (the ring's, and the tree's up and down) and one for each rank exchanged with. Arithmetic, not measured.
int64_t nccl_bytes(const OpenedGroups& groups);

// "2.28.9"; "" where there is no device library, or none with NCCL.
std::string nccl_version();

}  // namespace carillon
