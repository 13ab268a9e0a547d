// Launches attention's kernels. Only attention_*.cu include this.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {

// Args has a `problem`. More than 48 KiB of shared memory must be requested once per kernel and device. Requesting it
// at each launch costs the host a microsecond, which is less than keeping track of earlier requests.
template <class Args>
cudaError_t launch_attention(void (*kernel)(const Args), int64_t blocks, int threads, size_t shared_bytes,
                             const Args& args, cudaStream_t stream) {
  constexpr int64_t kMost = INT32_MAX - 256;  // the kernels count rows, keys and blocks in 32 bits
  if (args.problem.rows > kMost || args.problem.keys > kMost || blocks > kMost) return cudaErrorInvalidValue;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error != cudaSuccess) return error;
  return launch(kernel, blocks, 1, threads, shared_bytes, stream, args);
}

}  // namespace carillon::cuda
