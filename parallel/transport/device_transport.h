// Carries tensors in a device's memory between the ranks of one group; device_communicator.h combines it with the
// communicator for host memory. There are two kinds: NCCL (nccl_communicator.h), and `staged`, through host memory.
//
// Rules, in addition to those of communicator.h:
//  - Operations are ordered like ops of the backend: each starts after all work put on the backend's queue before it,
//    and work put there after it (after Transfer::wait, if it was started) sees its result. No call blocks the host
//    until the device is done, unless a kind says so.
//  - Every rank makes the same calls in the same order, over all groups together: one order per process. Otherwise two
//    groups might wait for each other.
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

  // "NCCL 2.28.9" or "host memory": for the line a run prints about itself.
  virtual std::string describe() const = 0;
  // Whether all data passes through host memory.
  virtual bool through_host() const { return false; }

  // Announces exchanges with these ranks: sends to some, receives from others. The memory that a pair of ranks needs is
  // allocated now, while there is some left, and an unreachable peer is found before the first step. Collective. Other
  // pairs are connected at their first exchange.
  virtual void connect(const std::vector<int>& /*to*/, const std::vector<int>& /*from*/) {}

  // As in Communicator, on tensors in the device's memory; the group has more than one rank.
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
  // An absent tensor or rank -1 means: nothing in that direction.
  virtual std::unique_ptr<Communicator::Transfer> start_exchange(Tensor send, int to, Tensor receive, int from) = 0;
};

// A transport whose collectives have completed when the call returns.
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
