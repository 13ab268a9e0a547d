// Shared by kernels: element types and their conversions, 16-byte packs, sums over a warp and a block, launching. Only
// .cu files include this.
//
// Sums: a warp adds in halves (__shfl_xor_sync; both partners compute the same sum, so all lanes end with the same
// bits), a block adds the sums of its warps in order. There are no atomics, so the same inputs give the same bits.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <cstddef>
#include <cstdint>

#include "runtime/cuda/ops/injected_fault.h"
#include "runtime/cuda/ops/kernels.h"
#include "runtime/cuda/ops/tensor_core.h"

namespace carillon::cuda {

template <class T>
struct AccumulateOf {
  using type = float;
};
template <>
struct AccumulateOf<double> {
  using type = double;
};
template <class T>
using Accumulate = typename AccumulateOf<T>::type;

template <class To, class From>
struct Convert {
  static __device__ __forceinline__ To from(From value) { return static_cast<To>(value); }
};
template <class From>
struct Convert<__nv_bfloat16, From> {
  static __device__ __forceinline__ __nv_bfloat16 from(From value) {
    return __float2bfloat16_rn(static_cast<float>(value));
  }
};
template <class To>
struct Convert<To, __nv_bfloat16> {
  static __device__ __forceinline__ To from(__nv_bfloat16 value) { return static_cast<To>(__bfloat162float(value)); }
};
template <>
struct Convert<__nv_bfloat16, __nv_bfloat16> {
  static __device__ __forceinline__ __nv_bfloat16 from(__nv_bfloat16 value) { return value; }
};
template <class To, class From>
__device__ __forceinline__ To convert(From value) {
  return Convert<To, From>::from(value);
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }
__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }

// A product of its own rounding: nvcc makes no fma of it and a sum.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }

// ---- packs ---------------------------------------------------------------------------------------------------------
// kCount contiguous elements, loaded and stored in as few 16-byte accesses as possible.
constexpr int pack_alignment(size_t bytes) { return bytes >= 16 ? 16 : static_cast<int>(bytes); }
template <class T, int kCount>
struct alignas(pack_alignment(sizeof(T) * kCount)) Pack {
  T value[kCount];
  static __device__ __forceinline__ Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  __device__ __forceinline__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
};

// The elements of T that fill 16 bytes.
template <class T>
constexpr int kPackOf = 16 / static_cast<int>(sizeof(T));

// Whether packs of `count` elements of `bytes` bytes can be used on rows of this base and stride.
inline bool packs(const void* data, int64_t stride, int count, size_t bytes) {
  const size_t alignment = static_cast<size_t>(pack_alignment(bytes * static_cast<size_t>(count)));
  return reinterpret_cast<uintptr_t>(data) % alignment == 0 && static_cast<size_t>(stride) * bytes % alignment == 0;
}

// ---- sums ----------------------------------------------------------------------------------------------------------
constexpr unsigned kAllLanes = 0xffffffffu;

template <class A>
__device__ __forceinline__ A warp_sum(A value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

// Returns the sum over the `warps` warps of a row to each of their threads. One warp needs no barrier. With more, the
// row must be the whole block's, `slots` are `warps` elements of shared memory, and every thread must call this.
template <class A>
__device__ __forceinline__ A row_sum(A value, int warps, A* slots) {
  value = warp_sum(value);
  if (warps == 1) return value;
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = value;
  if (!kBroken<InjectedFault::kSumBarrierRemoved>) __syncthreads();
  A total = slots[0];
  for (int warp = 1; warp < warps; ++warp) total += slots[warp];
  if (!kBroken<InjectedFault::kSlotsBarrierRemoved>) __syncthreads();  // the slots can be reused
  return total;
}

// ---- launching -----------------------------------------------------------------------------------------------------
template <class Args>
cudaError_t launch(void (*kernel)(Args), int64_t blocks_x, int64_t blocks_y, int threads, size_t shared_bytes,
                   cudaStream_t stream, const Args& args) {
  if (blocks_x == 0 || blocks_y == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y), 1);
  config.blockDim = dim3(static_cast<unsigned>(threads), 1, 1);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, args);
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls function(T{}) for the C++ type of a floating `type`.
template <class Function>
cudaError_t dispatch_type(Type type, Function&& function) {
  switch (type) {
    case Type::kFloat64:
      return function(double{});
    case Type::kFloat32:
      return function(float{});
    case Type::kBFloat16:
      return function(__nv_bfloat16{});
    default:
      return cudaErrorInvalidValue;
  }
}

// ---- many tensors in one launch -----------------------------------------------------------------------------------
// The place that a block belongs to: the last of `count` places whose `first` block is not after it.
template <class Place>
__device__ __forceinline__ int place_of_block(const Place* places, int count, int block) {
  int low = 0, high = count;  // the result is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (places[middle].first <= block)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// ---- one thread per pack of a matrix -------------------------------------------------------------------------------
// The threads of a block cover `width` (a power of two) packs of a row and 256 / width rows; blocks cover columns in x
// and rows in y, and loop if there are more rows than the grid can have blocks. So no index needs a division.
struct RowGrid {
  static constexpr int kThreads = 256;
  int64_t rows = 0, packs = 0;
  int width_log2 = 0;

  RowGrid() = default;
  RowGrid(int64_t row_count, int64_t packs_a_row) : rows(row_count), packs(packs_a_row) {
    while ((1 << width_log2) < kThreads && (int64_t{1} << width_log2) < packs) ++width_log2;
  }
  int rows_a_block() const { return kThreads >> width_log2; }
  int64_t blocks_x() const { return divide_up(packs, int64_t{1} << width_log2); }
  int64_t blocks_y() const {
    const int64_t wanted = divide_up(rows, rows_a_block());
    return wanted < 65535 ? wanted : 65535;
  }
  // This thread's pack and rows: for (RowGrid::Place at = grid.first(); at.row < grid.rows; at.row += at.step).
  struct Place {
    int64_t row, step, pack;
  };
  __device__ __forceinline__ Place first() const {
    const int rows_here = kThreads >> width_log2, width = 1 << width_log2;
    Place at;
    at.pack = static_cast<int64_t>(blockIdx.x) * width + (threadIdx.x & (width - 1));
    at.step = static_cast<int64_t>(gridDim.y) * rows_here;
    at.row = at.pack < packs ? static_cast<int64_t>(blockIdx.y) * rows_here + (threadIdx.x >> width_log2) : rows;
    return at;
  }
};
template <class Args>
cudaError_t launch(void (*kernel)(Args), const RowGrid& grid, cudaStream_t stream, const Args& args) {
  return launch(kernel, grid.blocks_x(), grid.rows == 0 ? 0 : grid.blocks_y(), RowGrid::kThreads, 0, stream, args);
}

}  // namespace carillon::cuda
