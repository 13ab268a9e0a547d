// The transport of device tensors that a run takes: NCCL out of the device's library (libcarillon_cuda.so), or host
// memory where that library has none.
#pragma once

#include <string>

#include "parallel/transport/device_communicator.h"

namespace carillon {

// A MakeTransport. CARILLON_DEVICE_TRANSPORT=nccl or staged decides; otherwise NCCL, if every rank has it. Error 64
// when it is asked for and missing on some rank, or the variable holds another word. Collective over `host`.
std::unique_ptr<DeviceTransport> make_device_transport(Backend& backend, Communicator& host);

// "2.28.9"; "" where there is no device library, or none with NCCL.
std::string nccl_version();

}  // namespace carillon
