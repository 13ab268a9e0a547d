// Kernels with races that ThreadSanitizer must report, and one that it must not, with a real thread for every thread of
// a block. Usage: race_test none | barrier | wait | early_copy | equal_values. Exit code 66: ThreadSanitizer reported.
#include <cstdio>
#include <cstring>
#include <vector>

#include "cuda_runtime.h"
#include "runtime/cuda/ops/tensor_core.h"

namespace {

constexpr int kThreads = 64;
constexpr int kTiles = 3;

enum class Mistake { kNone, kBarrier, kWait, kEarlyCopy, kEqualValues };

struct Args {
  const float* x;  // [kTiles, kThreads]
  float* y;        // [kThreads]
  Mistake mistake;
};

__device__ void copy_tile(const Args& args, int t) {
  if (t < kTiles && threadIdx.x < kThreads / 4)
    copy_async_16(shared_memory + (t % 2) * kThreads * 4 + threadIdx.x * 16, args.x + t * kThreads + threadIdx.x * 4,
                  true);
  copy_async_commit();
}

// y[i] = sum over tiles of x[tile][(i + 37) % kThreads], summed over pairs of lanes.
__global__ void pipelined_sum(const __grid_constant__ Args args) {
  const int me = static_cast<int>(threadIdx.x);
  float sum = 0;
  copy_tile(args, 0);
  for (int t = 0; t < kTiles; ++t) {
    if (args.mistake == Mistake::kEarlyCopy) {
      copy_tile(args, t + 1);
      copy_async_wait<1>();
    } else if (args.mistake != Mistake::kWait) {
      copy_async_wait<0>();
    }
    if (args.mistake != Mistake::kBarrier) __syncthreads();
    if (args.mistake != Mistake::kEarlyCopy) copy_tile(args, t + 1);
    sum += reinterpret_cast<float*>(shared_memory)[(t % 2) * kThreads + (me + 37) % kThreads];
  }
  copy_async_wait<0>();
  // All threads write the same value to the same place: a race that no result shows.
  if (args.mistake == Mistake::kEqualValues) args.y[0] = 1;
  __syncthreads();
  args.y[me] = sum + __shfl_xor_sync(0xffffffffu, sum, 1);
}

}  // namespace

int main(int argc, char** argv) {
  const char* names[] = {"none", "barrier", "wait", "early_copy", "equal_values"};
  Args args{};
  for (int i = 0; i < 5; ++i)
    if (argc > 1 && std::strcmp(argv[1], names[i]) == 0) args.mistake = static_cast<Mistake>(i);
  float *x = nullptr, *y = nullptr;
  const std::vector<float> values(kTiles * kThreads, 1);
  if (cudaMalloc(&x, values.size() * 4) != cudaSuccess || cudaMalloc(&y, kThreads * 4) != cudaSuccess) return 1;
  cudaMemcpy(x, values.data(), values.size() * 4, cudaMemcpyHostToDevice);
  args.x = x;
  args.y = y;
  cudaLaunchConfig_t config{};
  config.gridDim = 2;
  config.blockDim = kThreads;
  config.dynamicSmemBytes = 2 * kThreads * 4;
  cudaLaunchKernelEx(&config, pipelined_sum, args);
  std::vector<float> result(kThreads);
  if (cudaMemcpy(result.data(), y, kThreads * 4, cudaMemcpyDeviceToHost) != cudaSuccess) return 1;
  std::printf("%g\n", static_cast<double>(result[5]));
  return args.mistake == Mistake::kNone && result[5] != 2 * kTiles ? 1 : 0;
}
