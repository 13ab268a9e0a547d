// Compiled with runtime/cuda/staged_uploads.cpp, once unchanged and once without its wait (CMakeLists.txt); see the
// test.
#include <cstdint>
#include <vector>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/staged_uploads.h"

namespace carillon::testing {

// Uploads `count` pieces of `words` numbers without waiting in between; piece i is filled with i. Returns the number of
// pieces that arrive damaged on the device.
int CARILLON_STAGED_UPLOADS(int count, int64_t words) {
  using Uploads = cuda::StagedUploads;
  void* locked = nullptr;
  CHECK_CUDA(cudaMallocHost(&locked, Uploads::kBlocks * Uploads::kBlockBytes));
  cudaStream_t stream = nullptr;
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const size_t bytes = static_cast<size_t>(words) * sizeof(int32_t);
  char* device = nullptr;
  CHECK_CUDA(cudaMalloc(reinterpret_cast<void**>(&device), static_cast<size_t>(count) * bytes));
  int wrong = 0;
  {
    Uploads uploads(
        Buffer(locked, Uploads::kBlocks * Uploads::kBlockBytes, [](void* memory) { cudaFreeHost(memory); }));
    for (int i = 0; i < count; ++i) {
      std::vector<int32_t> piece(static_cast<size_t>(words), i);
      uploads.copy(device + static_cast<size_t>(i) * bytes, piece.data(), bytes, stream);
      piece.assign(piece.size(), -1);  // the source may be overwritten after the call
    }
    CHECK_CUDA(cudaStreamSynchronize(stream));
    std::vector<int32_t> held(static_cast<size_t>(words));
    for (int i = 0; i < count; ++i) {
      CHECK_CUDA(cudaMemcpy(held.data(), device + static_cast<size_t>(i) * bytes, bytes, cudaMemcpyDeviceToHost));
      wrong += held != std::vector<int32_t>(held.size(), i);
    }
  }
  CHECK_CUDA(cudaFree(device));
  CHECK_CUDA(cudaStreamDestroy(stream));
  return wrong;
}

}  // namespace carillon::testing
