#include "tests/support/device_memory.h"

#include "parallel/transport/nccl_library.h"

namespace carillon::testing {
namespace {

class ThroughDevice : public Communicator {
 public:
  ThroughDevice(Backend& backend, std::unique_ptr<Communicator> inner) : backend_(backend), inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }

  void all_reduce(Tensor x, Reduction reduction) override {
    DeviceMemory memory(backend_);
    const Tensor there = memory.give(x);
    counted([&] { inner_->all_reduce(there, reduction); });
    memory.take(x, there);
  }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    DeviceMemory memory(backend_);
    const Tensor all = memory.give(y), own = memory.give(x);
    counted([&] { inner_->all_gather(all, own, counts); });
    memory.take(y, all);
  }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    DeviceMemory memory(backend_);
    const Tensor all = memory.give(x), own = memory.give(y);
    counted([&] { inner_->reduce_scatter(own, all, counts); });
    memory.take(y, own);
  }
  void broadcast(Tensor x, int root) override {
    DeviceMemory memory(backend_);
    const Tensor there = memory.give(x);
    counted([&] { inner_->broadcast(there, root); });
    memory.take(x, there);
  }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Transfer> start_all_reduces(const std::vector<Tensor>& tensors, Reduction reduction) override {
    auto transfer = std::make_unique<Home>(backend_);
    std::vector<Tensor> there;
    for (const Tensor& x : tensors) there.push_back(transfer->expect(x));
    counted([&] { transfer->inner = inner_->start_all_reduces(there, reduction); });
    return transfer;
  }
  std::unique_ptr<Transfer> start_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    auto transfer = std::make_unique<Home>(backend_);
    const Tensor all = transfer->expect(y), own = transfer->memory.give(x);
    counted([&] { transfer->inner = inner_->start_all_gather(all, own, counts); });
    return transfer;
  }
  std::unique_ptr<Transfer> start_reduce_scatters(const std::vector<ReduceScatter>& parts) override {
    auto transfer = std::make_unique<Home>(backend_);
    std::vector<ReduceScatter> there;
    for (const auto& [y, x, counts] : parts) there.push_back({transfer->expect(y), transfer->memory.give(x), counts});
    counted([&] { transfer->inner = inner_->start_reduce_scatters(there); });
    return transfer;
  }
  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind kind) override {
    auto transfer = std::make_unique<Home>(backend_);
    const Tensor there = transfer->memory.give(send), back = receive ? transfer->expect(receive) : Tensor();
    counted([&] { transfer->inner = inner_->start_exchange(there, to, back, from, kind); });
    return transfer;
  }
  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    return through_device(backend_, inner_->split(color, key, std::move(name)));
  }

 private:
  struct Home : Transfer {
    explicit Home(Backend& backend) : memory(backend) {}
    void wait() override {
      inner->wait();
      for (const auto& [host, device] : results) memory.take(host, device);
    }
    void poll() override { inner->poll(); }
    Tensor expect(Tensor host) {
      results.emplace_back(host, memory.give(host));
      return results.back().second;
    }
    DeviceMemory memory;
    std::vector<std::pair<Tensor, Tensor>> results;  // pairs of host and device tensors to copy back
    std::unique_ptr<Transfer> inner;
  };
  // Adds the traffic that the device communicator counts during `body` to this one's.
  template <class Body>
  void counted(Body body) {
    inner_->reset_traffic();
    body();
    const Traffic& more = inner_->traffic();
    const auto add = [](Traffic::Count& to, const Traffic::Count& from) {
      to.calls += from.calls, to.bytes += from.bytes;
    };
    add(traffic_.all_reduce, more.all_reduce), add(traffic_.all_gather, more.all_gather);
    add(traffic_.reduce_scatter, more.reduce_scatter), add(traffic_.broadcast, more.broadcast);
    add(traffic_.shift, more.shift), add(traffic_.message, more.message);
  }

  Backend& backend_;
  std::unique_ptr<Communicator> inner_;
};

}  // namespace

std::unique_ptr<DeviceTransport> make_test_transport(Backend& backend, Communicator& host) {
  return backend.queue() == nullptr ? make_staged_transport(backend, host) : make_device_transport(backend, host);
}

std::unique_ptr<Communicator> through_device(Backend& backend, std::unique_ptr<Communicator> device_group) {
  return std::make_unique<ThroughDevice>(backend, std::move(device_group));
}

}  // namespace carillon::testing
