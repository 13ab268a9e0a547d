#include "parallel/transport/device_communicator.h"

#include <algorithm>
#include <numeric>

#include "parallel/context/ring_topology.h"

namespace carillon {
namespace {

class DeviceCommunicator : public Communicator {
 public:
  DeviceCommunicator(Backend& backend, std::unique_ptr<Communicator> host, MakeTransport make)
      : backend_(backend), host_(std::move(host)), make_(std::move(make)) {
    if (host_->size() > 1) transport_ = make_(backend_, *host_);
  }
  // Uses the transport of a group of the same ranks in the same order.
  DeviceCommunicator(Backend& backend, std::unique_ptr<Communicator> host, MakeTransport make,
                     const DeviceCommunicator& same)
      : backend_(backend), host_(std::move(host)), make_(std::move(make)), transport_(same.transport_) {
    CHECK(same.size() == size() && same.rank() == rank(), "one transport is for one group", name(), same.name());
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }

  void all_reduce(Tensor x, Reduction reduction) override {
    admit_all_reduce(x);
    if (!on_device(x)) return host_->all_reduce(x, reduction);
    if (transport_) transport_->all_reduce(x, reduction);
  }

  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    admit_all_gather(y, x, counts);
    if (!on_device(y, x)) return host_->all_gather(y, x, counts);
    transport_ ? transport_->all_gather(y, x, counts) : copy(y, x);
  }

  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    admit_reduce_scatter(y, x, counts);
    if (!on_device(y, x)) return host_->reduce_scatter(y, x, counts);
    transport_ ? transport_->reduce_scatter(y, x, counts) : copy(y, x);
  }

  void broadcast(Tensor x, int root) override {
    CHECK(x.packed(), "broadcast of a tensor with gaps", describe(x));
    note("broadcast", x.count(), x.dtype(), static_cast<uint64_t>(root));
    count_broadcast(static_cast<int64_t>(x.bytes()), root);
    if (!on_device(x)) return host_->broadcast(x, root);
    if (transport_) transport_->broadcast(x, root);
  }

  void barrier() override { host_->barrier(); }

  // All tensors of one call must lie on the same side.
  std::unique_ptr<Transfer> start_all_reduces(const std::vector<Tensor>& tensors, Reduction reduction) override {
    bool device = false;
    for (const Tensor& x : tensors) {
      admit_all_reduce(x);
      device = device || on_device(x);
    }
    if (!device) return host_->start_all_reduces(tensors, reduction);
    for (const Tensor& x : tensors) CHECK(x.empty() || on_device(x), "one tensor lies in host memory", name());
    return transport_ ? transport_->start_all_reduces(tensors, reduction) : finished();
  }
  std::unique_ptr<Transfer> start_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    admit_all_gather(y, x, counts);
    if (!on_device(y, x)) return host_->start_all_gather(y, x, counts);
    if (transport_) return transport_->start_all_gather(y, x, counts);
    copy(y, x);
    return finished();
  }
  std::unique_ptr<Transfer> start_reduce_scatters(const std::vector<ReduceScatter>& parts) override {
    bool device = false;
    for (const ReduceScatter& part : parts) {
      admit_reduce_scatter(part.y, part.x, part.counts);
      device = device || on_device(part.y, part.x);
    }
    if (!device) return host_->start_reduce_scatters(parts);
    for (const ReduceScatter& part : parts)
      CHECK(part.x.empty() || on_device(part.x), "one tensor lies in host memory", name());
    if (transport_) return transport_->start_reduce_scatters(parts);
    for (const ReduceScatter& part : parts) copy(part.y, part.x);
    return finished();
  }

  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind kind) override {
    if (to < 0) send = {};
    if (from < 0) receive = {};
    if (!on_device(send, receive)) {
      if (send) count_exchange(to == rank() ? 0 : static_cast<int64_t>(send.bytes()), kind);
      return host_->start_exchange(send, to, receive, from, kind);
    }
    CHECK((!send || send.packed()) && (!receive || receive.packed()), "exchanges are of packed tensors");
    if (send) count_exchange(to == rank() ? 0 : static_cast<int64_t>(send.bytes()), kind);
    if (transport_) return transport_->start_exchange(send, to, receive, from);
    if (send && receive) copy(receive, send);
    return finished();
  }

  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    return make_device_communicator(backend_, host_->split(color, key, std::move(name)), make_);
  }

  DeviceTransport* transport() const { return transport_.get(); }

 private:
  // These check and count an operation, whether its tensors lie on the host or the device.
  void admit_all_reduce(Tensor x) {
    CHECK(x.packed(), "all_reduce of a tensor with gaps", describe(x));
    note("all_reduce", x.count(), x.dtype());
    count_all_reduce(x.count(), static_cast<int64_t>(size_of(x.dtype())));
  }
  void admit_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
    CHECK(y.packed() && x.packed() && y.dtype() == x.dtype() && x.size(0) == counts[static_cast<size_t>(rank())] &&
              y.size(0) == std::accumulate(counts.begin(), counts.end(), int64_t{0}),
          "all_gather shapes", describe(y), describe(x));
    note("all_gather", y.count(), y.dtype(), detail_of(counts));
    count_all_gather(static_cast<int64_t>(x.bytes()));
  }
  void admit_reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) {
    CHECK(y.packed() && x.packed() && y.dtype() == x.dtype() && y.size(0) == counts[static_cast<size_t>(rank())] &&
              x.size(0) == std::accumulate(counts.begin(), counts.end(), int64_t{0}),
          "reduce_scatter shapes", describe(y), describe(x));
    note("reduce_scatter", x.count(), x.dtype(), detail_of(counts));
    count_reduce_scatter(static_cast<int64_t>(x.bytes()), static_cast<int64_t>(y.bytes()));
  }
  // Whether the tensors lie in the device's memory. All non-empty ones must agree.
  bool on_device(Tensor a, Tensor b = {}) const {
    const bool first = !a.empty() && backend_.holds(a.raw()), second = !b.empty() && backend_.holds(b.raw());
    CHECK(a.empty() || b.empty() || first == second, "one tensor lies in host memory, one in the device's", name());
    return first || second;
  }
  void copy(Tensor y, Tensor x) {
    CHECK(y.count() == x.count() && y.dtype() == x.dtype(), "copies are of tensors of one size", describe(y),
          describe(x));
    if (y.raw() != x.raw() && !y.empty()) backend_.copy(y.reshape({y.count()}), x.reshape({x.count()}));
  }

  Backend& backend_;
  std::unique_ptr<Communicator> host_;  // declared before the transport, which must be destroyed before the host group
  MakeTransport make_;
  std::shared_ptr<DeviceTransport> transport_;  // none in a group of one
};

// Whether the ranks that share weights (dp_cp) are exactly those of one ring.
bool ring_is_all(const GridShape& shape) { return shape.data == 1; }

}  // namespace

std::unique_ptr<Communicator> make_device_communicator(Backend& backend, std::unique_ptr<Communicator> host,
                                                       MakeTransport make) {
  return std::make_unique<DeviceCommunicator>(backend, std::move(host), std::move(make));
}

const DeviceTransport* device_transport_of(const Communicator& group) {
  const auto* device = dynamic_cast<const DeviceCommunicator*>(&group);
  return device == nullptr ? nullptr : device->transport();
}

void carry_device_tensors(ProcessGrid& grid, Backend& backend, const MakeTransport& make, bool apart) {
  const auto carry = [&](std::unique_ptr<Communicator>& axis) {
    axis = make_device_communicator(backend, std::move(axis), make);
  };
  const auto carry_as = [&](std::unique_ptr<Communicator>& axis, const Communicator& same, bool equal) {
    if (!equal || apart) return carry(axis);
    axis = std::make_unique<DeviceCommunicator>(backend, std::move(axis), make,
                                                dynamic_cast<const DeviceCommunicator&>(same));
  };
  carry(grid.cp);
  carry(grid.tp);
  carry_as(grid.dp_cp, *grid.cp, ring_is_all(grid.shape));
  carry_as(grid.kv_replicas, *grid.tp, grid.kv_replicas->size() == grid.tp->size());
  const RingPartners partners = ring_partners(grid.shape, grid.cp_rank);
  if (DeviceTransport* transport = dynamic_cast<const DeviceCommunicator&>(*grid.cp).transport(); transport != nullptr)
    transport->connect(partners.to, partners.from);
}

OpenedGroups opened_groups(const GridShape& shape, int kv_replicas) {
  OpenedGroups opened;
  opened.groups = (shape.context > 1) + (shape.tensor > 1) + (!ring_is_all(shape) && shape.data * shape.context > 1) +
                  (kv_replicas > 1 && kv_replicas < shape.tensor);
  // The ring's neighbours, and the rank that reads this rank's keys last and sends their gradient home.
  opened.partners = std::min(shape.context - 1, static_cast<int>(ring_partners(shape, 0).from.size()) + 1);
  return opened;
}

}  // namespace carillon
