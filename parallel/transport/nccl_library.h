// Chooses the transport of device tensors for a run: NCCL from the device's library (libcarillon_cuda.so), or host
// memory if that library has no NCCL.
#pragma once

#include <string>

#include "parallel/transport/device_communicator.h"

namespace carillon {

// A MakeTransport. CARILLON_DEVICE_TRANSPORT=nccl or staged decides; otherwise NCCL is used if every rank has it. Fails
// with error 64 if NCCL is requested and missing on some rank, or if the variable holds another word. Collective over
// `host`.
std::unique_ptr<DeviceTransport> make_device_transport(Backend& backend, Communicator& host);

// Bytes of device memory that NCCL's buffers for these groups take, from the sizes in its sources: a connection of a
// channel holds 4 MiB for the simple protocol, 4.7 MiB for LL128 and half a MiB for LL. A channel has three connections
// for reductions (the ring's, and the tree's up and down) and one for each rank exchanged with. Computed, not measured.
int64_t nccl_bytes(const OpenedGroups& groups);

// "2.28.9"; "" if there is no device library, or if it has no NCCL.
std::string nccl_version();

}  // namespace carillon
