// The communicator of a run whose backend has memory of its own: tensors in that memory go through a device transport,
// tensors in host memory through the host communicator underneath (MPI, threads, solo). Which it is, the backend says
// (Backend::holds). Traffic of both is counted here, as one axis.
#pragma once

#include <functional>
#include <memory>

#include "parallel/process_grid.h"
#include "parallel/transport/device_transport.h"
#include "runtime/backend.h"

namespace carillon {

// Makes the transport of one group; collective over `host`, which outlives it.
using MakeTransport = std::function<std::unique_ptr<DeviceTransport>(Backend& backend, Communicator& host)>;

// `host` for host tensors, a transport made by `make` for tensors of `backend`, which outlives the result. Collective
// over the group; a group of one needs no transport, its ops are copies by the backend. Groups split from it carry
// device tensors in the same way.
std::unique_ptr<Communicator> make_device_communicator(Backend& backend, std::unique_ptr<Communicator> host,
                                                       MakeTransport make);

// The transport of a group that make_device_communicator made; nullptr of any other, and of a group of one.
const DeviceTransport* device_transport_of(const Communicator& group);

// Lets the axes of a grid that carry tensors (cp, tp, dp_cp, kv_replicas) carry those of `backend`. World and dp stay
// the host's: they carry numbers and texts. Axes of the same ranks have one transport, unless `apart`; the ring's is
// connected with its partners (ring_topology.h). Collective over the grid.
void carry_device_tensors(ProcessGrid& grid, Backend& backend, const MakeTransport& make, bool apart = false);

// What it opens on a rank: transports of groups, and ranks that the ring receives from.
struct OpenedGroups {
  int groups = 0;
  int partners = 0;
};
OpenedGroups opened_groups(const GridShape& shape, int kv_replicas);

// Device tensors through host memory: downloaded, carried by `host`, uploaded. Sums are in rank order, the same bits as
// on the host. The host waits in every call, so nothing overlaps: for tests, and for a device without NCCL.
std::unique_ptr<DeviceTransport> make_staged_transport(Backend& backend, Communicator& host);

}  // namespace carillon
