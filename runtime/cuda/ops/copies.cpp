// Copies that run concurrently with the ops: one stream per direction, synchronised with the ops' stream by events
// only.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"

namespace carillon {

class CudaBackend::StreamCopy : public Backend::Copy {
 public:
  StreamCopy(CudaBackend& backend, cudaEvent_t done) : backend_(backend), done_(done) {}
  ~StreamCopy() override {
    if (done_ != nullptr) backend_.events_.push_back(done_);
  }
  void wait() override {
    if (done_ != nullptr) CHECK_CUDA(cudaStreamWaitEvent(backend_.on_device(), done_));
  }

 private:
  CudaBackend& backend_;
  cudaEvent_t done_;  // recorded after the copy; nullptr if there is nothing to copy
};

namespace {

// From this size on, this process allocates the pages itself: cudaMallocHost uses one thread and small pages, which
// takes most of a minute for an optimizer's 90 GiB.
constexpr size_t kOwnPages = size_t{64} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

void require_locked(cudaError_t error, size_t bytes) {
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail(ExitCode::kInputOutput,
         "cannot allocate {} MiB of page-locked host memory, on this rank, use more ranks, a shorter sequence or "
         "train.offload: none",
         bytes >> 20);
  }
  CHECK_CUDA(error);
}

// Zeroes the memory with all processors this rank may run on; the first access to a page allocates it.
void touch(char* data, size_t bytes) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const size_t threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                             ? std::clamp<size_t>(static_cast<size_t>(CPU_COUNT(&allowed)), 1, bytes / kHugePage)
                             : 1;
  const size_t share = (bytes / threads + kHugePage - 1) / kHugePage * kHugePage;
  std::vector<std::thread> workers;
  for (size_t begin = share; begin < bytes; begin += share)
    workers.emplace_back([=] { std::memset(data + begin, 0, std::min(share, bytes - begin)); });
  std::memset(data, 0, std::min(share, bytes));
  for (std::thread& worker : workers) worker.join();
}

}  // namespace

Buffer CudaBackend::allocate_host(size_t bytes) {
  on_device();
  if (bytes >= kOwnPages) {
    const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    void* data = std::aligned_alloc(kHugePage, rounded);
    if (data == nullptr) require_locked(cudaErrorMemoryAllocation, bytes);
    madvise(data, rounded, MADV_HUGEPAGE);
    touch(static_cast<char*>(data), rounded);
    const cudaError_t error = cudaHostRegister(data, rounded, cudaHostRegisterPortable);
    if (error != cudaSuccess) std::free(data);
    require_locked(error, bytes);
    return Buffer(data, bytes, [device = device_](void* pointer) {
      cudaSetDevice(device);
      cudaDeviceSynchronize();  // copies may be in flight
      cudaHostUnregister(pointer);
      std::free(pointer);
    });
  }
  void* data = nullptr;
  const size_t wanted = std::max<size_t>(bytes, 1);
  require_locked(cudaMallocHost(&data, wanted), bytes);
  std::memset(data, 0, wanted);
  return Buffer(data, bytes, [device = device_](void* pointer) {
    cudaSetDevice(device);
    cudaFreeHost(pointer);  // waits for the device; at program exit CUDA may already be shut down
  });
}

std::unique_ptr<Backend::Copy> CudaBackend::start_copy(Tensor to, Tensor from, cudaStream_t stream,
                                                       cudaMemcpyKind kind) {
  CHECK(to.shape() == from.shape() && to.dtype() == from.dtype() && to.packed() && from.packed(),
        "copies beside the ops are of packed tensors of one shape and type", carillon::describe(to),
        carillon::describe(from));
  if (to.empty()) return std::make_unique<StreamCopy>(*this, nullptr);
  const cudaStream_t queue = on_device();
  cudaEvent_t event = nullptr;
  if (events_.empty()) {
    CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  } else {
    event = events_.back();
    events_.pop_back();
  }
  // One event serves both: a wait refers to the event's latest record at the time of the call, so it can be reused.
  auto copy = std::make_unique<StreamCopy>(*this, event);
  CHECK_CUDA(cudaEventRecord(event, queue));
  CHECK_CUDA(cudaStreamWaitEvent(stream, event));
  CHECK_CUDA(cudaMemcpyAsync(to.raw(), from.raw(), to.bytes(), kind, stream));
  CHECK_CUDA(cudaEventRecord(event, stream));
  return copy;
}

std::unique_ptr<Backend::Copy> CudaBackend::start_upload(Tensor device, Tensor host) {
  return start_copy(device, host, upload_stream_, cudaMemcpyHostToDevice);
}

std::unique_ptr<Backend::Copy> CudaBackend::start_download(Tensor host, Tensor device) {
  return start_copy(host, device, download_stream_, cudaMemcpyDeviceToHost);
}

}  // namespace carillon
