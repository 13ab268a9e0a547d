// Copies tensors of a test into the memory of the device under test and back. On a backend that uses host memory the
// tensors stay where they are.
#pragma once

#include <deque>
#include <memory>

#include "parallel/process_grid.h"
#include "parallel/transport/device_communicator.h"
#include "tests/support/isolated_backend.h"

namespace carillon::testing {

class DeviceMemory {
 public:
  explicit DeviceMemory(Backend& backend) : backend_(backend) {}
  // Returns a device tensor with the values of `host`, which must be packed.
  Tensor give(Tensor host) {
    if (backend_.unified() || !host) return host;
    buffers_.push_back(backend_.allocate(host.bytes()));
    const Tensor device(buffers_.back().data(), host.dtype(), host.shape());
    if (!host.empty()) backend_.upload(device, host);
    return device;
  }
  // Copies the values of `device`, which give(host) returned, back into `host`.
  void take(Tensor host, Tensor device) {
    if (host.raw() != device.raw() && !host.empty()) backend_.download(host, device);
  }

 private:
  Backend& backend_;
  std::deque<Buffer> buffers_;
};

// The transport of the test's device: staged for the isolated one, for CUDA the one that runs use.
std::unique_ptr<DeviceTransport> make_test_transport(Backend& backend, Communicator& host);

// A group that carries tensors of `backend`: `group` itself if the host can read them.
inline std::unique_ptr<Communicator> for_device(Backend& backend, std::unique_ptr<Communicator> group) {
  return backend.unified() ? std::move(group)
                           : make_device_communicator(backend, std::move(group), make_test_transport);
}
inline void for_device(Backend& backend, ProcessGrid& grid) {
  if (!backend.unified()) carry_device_tensors(grid, backend, make_test_transport);
}

// A communicator of host tensors that sends them through the memory of a device, so that the cases of
// tests/parallel/communicator_cases.h test a device communicator.
std::unique_ptr<Communicator> through_device(Backend& backend, std::unique_ptr<Communicator> device_group);

}  // namespace carillon::testing
