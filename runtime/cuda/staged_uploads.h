// Small uploads that the host does not wait for: what is to go up is copied into page-locked memory of this class, and
// from there by the ops' own stream, so that the caller's memory is free at once and the order with the ops is that of
// the calls.
//
// The memory is a few blocks filled one after the other. A block is filled again once the stream has passed the event
// recorded after its last copy; the host waits for that event only where it has run so many blocks ahead of the device.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>

#include "runtime/buffer.h"
#include "runtime/cuda/staged_sizes.h"

namespace carillon::cuda {

class StagedUploads {
 public:
  static constexpr size_t kBlockBytes = kLargestStagedUpload;
  static constexpr size_t kBlocks = 4;

  // `memory`: kBlocks · kBlockBytes of page-locked host memory, which must outlive the stream's work.
  explicit StagedUploads(Buffer memory);
  ~StagedUploads();
  StagedUploads(const StagedUploads&) = delete;
  StagedUploads& operator=(const StagedUploads&) = delete;

  // Puts the copy of `bytes` (at most kBlockBytes) on the stream, always the same one. The current device is the
  // stream's.
  void copy(void* device, const void* host, size_t bytes, cudaStream_t stream);

 private:
  char* reserve(size_t bytes, cudaStream_t stream);

  Buffer memory_;
  std::array<cudaEvent_t, kBlocks> passed_{};  // recorded when a block was full
  size_t block_ = 0, used_ = 0;                // bytes of the block being filled
};

}  // namespace carillon::cuda
