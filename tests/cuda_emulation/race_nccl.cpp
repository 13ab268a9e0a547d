// A rank that calls NCCL while its watchdog runs, under ThreadSanitizer. The emulated communicator is as unguarded as
// NCCL's (nccl_communicator.h), so a query by the watchdog while the rank is inside NCCL would be reported.
#include <chrono>
#include <cstdio>

#include "cuda_runtime.h"
#include "parallel/transport/communicator.h"
#include "parallel/transport/nccl_communicator.h"
#include "runtime/forwarding_backend.h"

namespace carillon {
namespace {

// The parts of a CUDA backend that the transport uses.
class DeviceOfTheTest : public ForwardingBackend {
 public:
  DeviceOfTheTest() : ForwardingBackend(nullptr) { cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); }
  ~DeviceOfTheTest() override { cudaStreamDestroy(stream_); }
  void* queue() override { return stream_; }
  void synchronize() override { cudaStreamSynchronize(stream_); }
  Buffer allocate(size_t bytes) override {
    void* data = nullptr;
    cudaMalloc(&data, bytes);
    return Buffer(data, bytes, [](void* pointer) { cudaFree(pointer); });
  }

 protected:
  void around(OpCall&, const std::function<void()>&) override {}

 private:
  cudaStream_t stream_ = nullptr;
};

// Calls NCCL for several intervals of the watchdog.
int call_beside_the_watchdog() {
  DeviceOfTheTest backend;
  const auto host = solo_communicator("cp");
  const NcclOptions options;
  const std::unique_ptr<DeviceTransport> transport(carillon_make_nccl_communicator(&backend, host.get(), &options));
  const Buffer buffer = backend.allocate(64);
  int calls = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  for (; std::chrono::steady_clock::now() < end; ++calls)
    transport->all_reduce(Tensor(buffer.data(), DType::kFloat32, {16}), Reduction::kSum);
  backend.synchronize();
  return calls;
}

}  // namespace
}  // namespace carillon

int main() {
  const int calls = carillon::call_beside_the_watchdog();
  std::printf("%d calls\n", calls);
  return calls == 0;
}
