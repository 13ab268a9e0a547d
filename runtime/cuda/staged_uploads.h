// Small uploads that the host does not wait for. The data is copied into page-locked memory of this class, and from
// there to the device on the stream of the ops. The caller's memory can be reused at once, and uploads and ops run in
// the order of the calls.
//
// The memory consists of a few blocks that are filled in turn. A block is reused once the stream has passed the event
// recorded after the block's last copy; the host waits for that event only if it is that many blocks ahead of the
// device.
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

  // Queues the copy of `bytes` (at most kBlockBytes) on the stream. All calls must use the same stream, and its device
  // must be current.
  void copy(void* device, const void* host, size_t bytes, cudaStream_t stream);

 private:
  char* reserve(size_t bytes, cudaStream_t stream);

  Buffer memory_;
  std::array<cudaEvent_t, kBlocks> passed_{};  // recorded when a block is full
  size_t block_ = 0, used_ = 0;                // bytes of the block being filled
};

}  // namespace carillon::cuda
