// What carries tensors in a device's memory between the ranks of one group; device_communicator.h puts it beside the
// communicator for host memory. Two kinds: NCCL (nccl_communicator.h) and `staged`, through host memory.
//
// Rules, beside those of communicator.h:
//  - All are ordered like ops of the backend: each starts after all work put on the backend's queue before it, and work
//    put there after it (after Transfer::wait, for what was started) sees its result. No call waits for the device on
//    the host, except where a kind says so.
//  - Every rank calls the same in the same order, over all groups together: one order per process, or two groups may
//    wait for each other.
//  - Tensors are packed; nothing is counted here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

class DeviceTransport {
 public:
  virtual ~DeviceTransport() = default;

  // "NCCL 2.28.9", "host memory": for the line a run prints about itself.
  virtual std::string describe() const = 0;
  // Whether everything passes through host memory.
  virtual bool through_host() const { return false; }

  // That exchanges with these ranks will come, to some and from others: what a pair of ranks takes is taken now, while
  // there is memory, and a peer that cannot be reached is found before the first step. Collective. Others are connected
  // when they first exchange.
  virtual void connect(const std::vector<int>& /*to*/, const std::vector<int>& /*from*/) {}

  // As Communicator's, on tensors in the device's memory; the group has more than one rank.
  virtual void all_reduce(Tensor x, Reduction reduction) = 0;
  virtual void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) = 0;
  virtual void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) = 0;
  virtual void broadcast(Tensor x, int root) = 0;
  virtual std::unique_ptr<Communicator::Transfer> start_all_reduces(const std::vector<Tensor>& tensors,
                                                                    Reduction reduction) = 0;
  virtual std::unique_ptr<Communicator::Transfer> start_all_gather(Tensor y, Tensor x,
                                                                   const std::vector<int64_t>& counts) = 0;
  virtual std::unique_ptr<Communicator::Transfer> start_reduce_scatters(
      const std::vector<Communicator::ReduceScatter>& parts) = 0;
  // An absent tensor or rank -1: nothing in that direction.
  virtual std::unique_ptr<Communicator::Transfer> start_exchange(Tensor send, int to, Tensor receive, int from) = 0;
};

// A transport whose collectives are over when they were called.
class ImmediateTransport : public DeviceTransport {
 public:
  std::unique_ptr<Communicator::Transfer> start_all_reduces(const std::vector<Tensor>& tensors,
                                                            Reduction reduction) override {
    for (const Tensor& x : tensors) all_reduce(x, reduction);
    return Communicator::finished();
  }
  std::unique_ptr<Communicator::Transfer> start_all_gather(Tensor y, Tensor x,
                                                           const std::vector<int64_t>& counts) override {
    all_gather(y, x, counts);
    return Communicator::finished();
  }
  std::unique_ptr<Communicator::Transfer> start_reduce_scatters(
      const std::vector<Communicator::ReduceScatter>& parts) override {
    for (const auto& [y, x, counts] : parts) reduce_scatter(y, x, counts);
    return Communicator::finished();
  }
};

}  // namespace carillon
