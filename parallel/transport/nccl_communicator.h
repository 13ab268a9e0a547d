// Device tensors between the ranks of one group over NCCL. Compiled into the device's shared library only; `carillon`
// finds it there by name (nccl_library.h), so this header includes neither CUDA nor NCCL.
//
// One communicator a group, its unique id broadcast over the host communicator; blocking, since a non-blocking one
// starts a host thread for every call (40 to 100 microseconds; a layer has dozens): what ends a wait in a call is the
// watchdog. Operations run on a stream of the group's own: they begin when the backend's queue has come to where they
// were called, and the queue waits for their end (of what was started: at Transfer::wait), without the host. Groups of
// one rank (thread) run one after another in the order of the calls, since NCCL may wait for ever when two
// communicators' work meets in different orders (NVIDIA/nccl issues 522 and 783). What reductions take, and the
// pairs of ranks that connect() names, is taken before the first step, while there is memory.
//
// A lost peer: a watchdog looks at every group of the process, five times a second. When a communicator reports an
// error, or a call of NCCL or an operation that has begun does not end within `timeout_seconds`, it says so in one line
// naming group and operation, aborts the communicators and ends the process with exit code 75, upon which the launcher
// ends the others.
//
// Sums: NCCL's own order (communicator.h says what is promised). Uneven gathers are grouped broadcasts, uneven
// reduce-scatters grouped reductions.
#pragma once

#include "parallel/transport/device_transport.h"
#include "runtime/backend.h"

namespace carillon {

// Thread blocks of a communicator at most, each with its own connections and buffers (NCCL_MAX_CTAS overrides it): NCCL
// would take up to 32 where there is NVLink, and the compute beside it and the memory are worth more than the last
// tenth of a link.
inline constexpr int kNcclChannels = 16;

struct NcclOptions {
  double timeout_seconds = 1800;  // of one operation, from its beginning on the device, peers that come late included
  // Test only (parallel/injected_fault.h): whether the queue's wait for an exchange, or for a collective that was
  // started, is left out at this moment.
  bool (*drops_exchange_wait)() = nullptr;
  bool (*drops_collective_wait)() = nullptr;
};

}  // namespace carillon

extern "C" {
// A new transport of the group `host`, which like `backend` (a CUDA backend; the calling thread's device is its)
// outlives it. Collective. Errors 64: NCCL cannot start; 75: a peer does not come. Exceptions cross.
carillon::DeviceTransport* carillon_make_nccl_communicator(carillon::Backend* backend, carillon::Communicator* host,
                                                           const carillon::NcclOptions* options);
// As NCCL counts: 22809 is 2.28.9.
int carillon_nccl_version();
}
