// The communicator of a run whose backend has memory of its own: tensors in that memory go through a device transport,
// tensors in host memory through the host communicator underneath (MPI, threads, solo). Backend::holds tells which of
// the two applies. The traffic of both is counted here, as one axis.
#pragma once

#include <functional>
#include <memory>

#include "parallel/process_grid.h"
#include "parallel/transport/device_transport.h"
#include "runtime/backend.h"

namespace carillon {

// Makes the transport of one group. Collective over `host`, which must outlive the transport.
using MakeTransport = std::function<std::unique_ptr<DeviceTransport>(Backend& backend, Communicator& host)>;

// Uses `host` for host tensors, and a transport made by `make` for tensors of `backend`, which must outlive the result.
// Collective over the group. A group of one needs no transport: its operations are copies by the backend. Groups split
// from it carry device tensors in the same way.
std::unique_ptr<Communicator> make_device_communicator(Backend& backend, std::unique_ptr<Communicator> host,
                                                       MakeTransport make);

// The transport of a group made by make_device_communicator; nullptr for any other group and for a group of one.
const DeviceTransport* device_transport_of(const Communicator& group);

// Lets those axes of a grid that carry tensors (cp, tp, dp_cp, kv_replicas) carry tensors of `backend`. World and dp
// stay on the host: they carry numbers and texts. Axes of the same ranks share one transport, unless `apart`. The
// ring's transport is connected with its partners (ring_topology.h). Collective over the grid.
void carry_device_tensors(ProcessGrid& grid, Backend& backend, const MakeTransport& make, bool apart = false);

// What carry_device_tensors opens on a rank: transports of groups, and ranks that the ring receives from.
struct OpenedGroups {
  int groups = 0;
  int partners = 0;
};
OpenedGroups opened_groups(const GridShape& shape, int kv_replicas);

// Sends device tensors through host memory: downloads them, has `host` carry them, uploads them. Sums are in rank
// order, with the same bits as on the host. The host waits in every call, so nothing overlaps. For tests, and for a
// device without NCCL.
std::unique_ptr<DeviceTransport> make_staged_transport(Backend& backend, Communicator& host);

}  // namespace carillon
