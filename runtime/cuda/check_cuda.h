// CHECK_CUDA(call): throws when a call of the CUDA runtime did not succeed, with the place, the error's name and its
// text. Errors of kernels show at a later call on the same device: the place is where they were seen.
#pragma once

#include <cuda_runtime.h>

#include "runtime/error.h"

namespace carillon::cuda {

inline void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  const std::string text =
      fmt::format("{}:{}: {}: {} ({})", file, line, call, cudaGetErrorName(error), cudaGetErrorString(error));
  cudaGetLastError();  // an error of this call alone must not be met again by the next
  if (error == cudaErrorMemoryAllocation) throw Error(ExitCode::kInputOutput, text);
  throw InternalError(text);
}

}  // namespace carillon::cuda

#define CHECK_CUDA(call) ::carillon::cuda::check((call), #call, __FILE__, __LINE__)
