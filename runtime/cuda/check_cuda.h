// CHECK_CUDA(call): throws if a call of the CUDA runtime fails, with the place and the error's name and text. An error
// in a kernel appears at a later call on the same device; the place is then that call.
#pragma once

#include <cuda_runtime.h>

#include "runtime/error.h"

namespace carillon::cuda {

inline void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  const std::string text =
      fmt::format("{}:{}: {}: {} ({})", file, line, call, cudaGetErrorName(error), cudaGetErrorString(error));
  cudaGetLastError();  // clear an error of this call, so that the next call does not report it again
  if (error == cudaErrorMemoryAllocation) throw Error(ExitCode::kInputOutput, text);
  throw InternalError(text);
}

}  // namespace carillon::cuda

#define CHECK_CUDA(call) ::carillon::cuda::check((call), #call, __FILE__, __LINE__)
