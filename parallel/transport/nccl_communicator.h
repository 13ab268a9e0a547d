// Carries device tensors between the ranks of one group over NCCL. Compiled only into the device's shared library,
// where `carillon` finds it by name (nccl_library.h), so this header includes neither CUDA nor NCCL.
//
// There is one communicator per group; its unique id is broadcast over the host communicator. Communicators are
// blocking, because a non-blocking one starts a host thread for every call (40 to 100 microseconds; a layer makes
// dozens of calls); the watchdog ends a call that hangs. Operations run on a stream of the group's own. They begin when
// the backend's queue reaches the point where they were called, and the queue waits until they end (for started ones:
// at Transfer::wait); the host does not wait. Groups of one rank (thread) run one after another in the order of the
// calls, since NCCL may deadlock if the work of two communicators is enqueued in different orders (NVIDIA/nccl issues
// 522 and 783). The memory that reductions need, and that of the pairs of ranks named in connect(), is allocated before
// the first step, while there is some left.
//
// A lost peer: a watchdog looks at every group of the process five times a second. If a communicator reports an error,
// or if a call of NCCL or an operation that has begun does not end within `timeout_seconds`, it prints one line naming
// group and operation, aborts the communicators and ends the process with exit code 75, whereupon the launcher ends the
// others.
//
// Sums are in NCCL's own order (communicator.h says what is guaranteed). Uneven gathers are grouped broadcasts, uneven
// reduce-scatters grouped reductions.
#pragma once

#include "parallel/transport/device_transport.h"
#include "runtime/backend.h"

namespace carillon {

// Maximum number of thread blocks per communicator, each with its own connections and buffers (NCCL_MAX_CTAS overrides
// it). NCCL would take up to 32 with NVLink; the concurrent compute and the memory are worth more than the last tenth
// of the link's bandwidth.
inline constexpr int kNcclChannels = 16;

struct NcclOptions {
  double timeout_seconds = 1800;  // per operation, from its start on the device; includes waiting for late peers
  // Test only (parallel/injected_fault.h): whether the queue's wait for an exchange, or for a started collective, is to
  // be skipped right now.
  bool (*drops_exchange_wait)() = nullptr;
  bool (*drops_collective_wait)() = nullptr;
};

}  // namespace carillon

extern "C" {
// Makes a transport of the group `host`. `host` and `backend` must outlive it; `backend` is a CUDA backend, whose
// device is the calling thread's current one. Collective. Errors 64: NCCL cannot start; 75: a peer does not come.
// Throws C++ exceptions across this boundary.
carillon::DeviceTransport* carillon_make_nccl_communicator(carillon::Backend* backend, carillon::Communicator* host,
                                                           const carillon::NcclOptions* options);
// In NCCL's encoding: 22809 is 2.28.9.
int carillon_nccl_version();
}
