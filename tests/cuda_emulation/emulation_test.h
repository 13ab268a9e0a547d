// Helpers shared by the tests of the emulation.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "counters.h"
#include "cuda_runtime.h"

namespace carillon_emulation {

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess) << #call
#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess) << #call

// Resets the devices and sets their options (CARILLON_EMULATION).
inline void use_mode(const std::string& mode) {
  setenv("CARILLON_EMULATION", mode.c_str(), 1);
  cudaDeviceReset();
}

// A device array with these values.
template <class T>
T* on_device(const std::vector<T>& values) {
  T* pointer = nullptr;
  EXPECT_CUDA(cudaMalloc(&pointer, values.size() * sizeof(T)));
  EXPECT_CUDA(cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return pointer;
}

// The values of a device array, after synchronising.
template <class T>
std::vector<T> to_host(const T* pointer, std::size_t count) {
  std::vector<T> values(count);
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_CUDA(cudaMemcpy(values.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

template <class... P, class... A>
cudaError_t run(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
                A... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

class Emulation : public testing::Test {
 protected:
  void SetUp() override { use_mode(""); }
  void TearDown() override { use_mode(""); }
};

}  // namespace carillon_emulation
