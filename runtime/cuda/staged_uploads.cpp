#include "runtime/cuda/staged_uploads.h"

#include <cstring>
#include <utility>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/ops/injected_fault.h"

namespace carillon::cuda {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

StagedUploads::StagedUploads(Buffer memory) : memory_(std::move(memory)) {
  CHECK(memory_.bytes() >= kBlocks * kBlockBytes, "memory for all blocks", memory_.bytes());
  for (cudaEvent_t& event : passed_) CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
}

StagedUploads::~StagedUploads() {
  for (const cudaEvent_t event : passed_)
    if (event != nullptr) cudaEventDestroy(event);
}

char* StagedUploads::reserve(size_t bytes, cudaStream_t stream) {
  CHECK(bytes <= kBlockBytes, "an upload that fits a block", bytes);
  if (used_ + bytes > kBlockBytes) {
    CHECK_CUDA(cudaEventRecord(passed_[block_], stream));
    block_ = (block_ + 1) % kBlocks;
    used_ = 0;
    // An event that was never recorded counts as passed.
    const cudaError_t state = cudaEventQuery(passed_[block_]);
    if (state != cudaErrorNotReady)
      CHECK_CUDA(state);
    else if (!kBroken<InjectedFault::kStagingNotWaitedFor>)
      CHECK_CUDA(cudaEventSynchronize(passed_[block_]));
  }
  char* reserved = static_cast<char*>(memory_.data()) + block_ * kBlockBytes + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return reserved;
}

void StagedUploads::copy(void* device, const void* host, size_t bytes, cudaStream_t stream) {
  char* staged = reserve(bytes, stream);
  std::memcpy(staged, host, bytes);
  CHECK_CUDA(cudaMemcpyAsync(device, staged, bytes, cudaMemcpyHostToDevice, stream));
}

}  // namespace carillon::cuda
