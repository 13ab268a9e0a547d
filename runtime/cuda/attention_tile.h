// What the tensor-core attention kernels share: tiles of bfloat16 rows in shared memory, the products of a warp with
// them, and where a row's visible interval lies in the block at hand. Included by attention_forward.cu and
// attention_backward.cu only; everything has internal linkage (test_break.h compiles these files several times).
//
// A block is 4 warps; a warp owns 16 rows of the block's own side (queries in forward and dQ, keys in dK/dV) and the
// block walks over tiles of the other side. In a warp, lane l has g = l / 4, t = l % 4: of its 16 rows lane l holds
// rows g and g + 8, of every 8 columns 2t and 2t + 1 (tensor_core.h).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <cstdint>

#include "runtime/cuda/attention_kernels.h"
#include "runtime/cuda/attention_launch.h"
#include "runtime/cuda/tensor_core.h"
#include "runtime/cuda/test_break.h"

namespace carillon::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 64;  // a block's rows of its own side: 16 a warp
constexpr float kLog2E = 1.4426950408889634f;

// ---- tiles ---------------------------------------------------------------------------------------------------------
// A row's 16-byte chunks are permuted so that the eight rows ldmatrix reads at once, and the eight chunks a copy writes
// at once, lie in different banks. A row of 64 or 128 elements begins at bank 0: exclusive or with the row's number. A
// row of 96 (12 chunks) begins at bank 0 or 16 by turns: two rows share a permutation of four chunks.
template <int kWidth>
__device__ __forceinline__ int element_of(int row, int chunk) {
  if constexpr (kWidth == 96)
    return (row * 12 + (chunk ^ ((row >> 1) & 3))) * 8;
  else
    return (row * (kWidth / 8) + (chunk ^ (row & 7))) * 8;
}

// Starts the copy of kCount rows; those from `valid` (at least 1) on become zeros.
template <int kWidth, int kCount>
__device__ __forceinline__ void copy_tile(__nv_bfloat16* tile, const __nv_bfloat16* from, int stride, int valid) {
  constexpr int kChunks = kWidth / 8;
  static_assert(kCount * kChunks % kThreads == 0);
#pragma unroll
  for (int i = 0; i < kCount * kChunks / kThreads; ++i) {
    const int index = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kChunks, chunk = index % kChunks;
    const int source = row < valid ? row : valid - 1;
    copy_async_16(tile + element_of<kWidth>(row, chunk), from + static_cast<int64_t>(source) * stride + chunk * 8,
                  row < valid);
  }
}

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) & 31; }

// Rows row … row + 15, columns 16k … 16k + 15 as A.
template <int kWidth>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const __nv_bfloat16* tile, int row, int k) {
  const int lane = lane_id();
  ldmatrix_x4(a, tile + element_of<kWidth>(row + (lane & 15), 2 * k + (lane >> 4)));
}

// d[16, 8·kTiles] += own[16, kWidth] · other[8·kTiles, kWidth]ᵀ; `own` begins at row `row` of its tile.
template <int kWidth, int kTiles>
__device__ __forceinline__ void multiply_rows(float (&d)[kTiles][4], const __nv_bfloat16* own, int row,
                                              const __nv_bfloat16* other) {
  const int lane = lane_id();
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    uint32_t a[4];
    load_a<kWidth>(a, own, row, k);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      ldmatrix_x4(b, other + element_of<kWidth>(8 * n + (lane & 7) + 8 * (lane >> 4), 2 * k + ((lane >> 3) & 1)));
      mma_m16n8k16(d[n], a, b[0], b[1]);
      mma_m16n8k16(d[n + 1], a, b[2], b[3]);
    }
  }
}
// The same with the warp's rows in registers.
template <int kWidth, int kTiles>
__device__ __forceinline__ void multiply_rows(float (&d)[kTiles][4], const uint32_t (&own)[kWidth / 16][4],
                                              const __nv_bfloat16* other) {
  const int lane = lane_id();
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k)
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      ldmatrix_x4(b, other + element_of<kWidth>(8 * n + (lane & 7) + 8 * (lane >> 4), 2 * k + ((lane >> 3) & 1)));
      mma_m16n8k16(d[n], own[k], b[0], b[1]);
      mma_m16n8k16(d[n + 1], own[k], b[2], b[3]);
    }
}

// d[16, kWidth] += weights[16, 16·kSteps] · other[16·kSteps, kWidth].
template <int kWidth, int kSteps>
__device__ __forceinline__ void multiply_columns(float (&d)[kWidth / 8][4], const uint32_t (&weights)[kSteps][4],
                                                 const __nv_bfloat16* other) {
  const int lane = lane_id();
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
#pragma unroll
    for (int n = 0; n < kWidth / 8; n += 2) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, other + element_of<kWidth>(16 * k + (lane & 15), n + (lane >> 4)));
      mma_m16n8k16(d[n], weights[k], b[0], b[1]);
      mma_m16n8k16(d[n + 1], weights[k], b[2], b[3]);
    }
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  union {
    __nv_bfloat162 pair;
    uint32_t bits;
  } packed;
  packed.pair = __floats2bfloat162_rn(low, high);
  return packed.bits;
}

// A product's result, two neighbouring tiles of 8 columns, *is* the A operand of one step of 16 of the next product.
template <int kTiles>
__device__ __forceinline__ void pack_rows(uint32_t (&a)[kTiles / 2][4], const float (&d)[kTiles][4]) {
  constexpr int kUpper = kBroken<TestBreak::kFragmentRowsSwapped> ? 2 : 0, kLower = 2 - kUpper;
#pragma unroll
  for (int k = 0; k < kTiles / 2; ++k) {
    a[k][0] = pack(d[2 * k][kUpper], d[2 * k][kUpper + 1]);
    a[k][1] = pack(d[2 * k][kLower], d[2 * k][kLower + 1]);
    a[k][2] = pack(d[2 * k + 1][kUpper], d[2 * k + 1][kUpper + 1]);
    a[k][3] = pack(d[2 * k + 1][kLower], d[2 * k + 1][kLower + 1]);
  }
}

template <int kTiles>
__device__ __forceinline__ void clear(float (&d)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) d[n][e] = 0;
}

// The loops' barriers and waits, which a planted mistake may remove.
template <TestBreak kRemovedBy>
__device__ __forceinline__ void barrier() {
  if constexpr (!kBroken<kRemovedBy>) __syncthreads();
}
__device__ __forceinline__ void wait_for_copies() { copy_async_wait<kBroken<TestBreak::kCopyNotWaitedFor> ? 1 : 0>(); }
// Without that mistake nothing is in flight behind a loop; with it, a thread must not end so.
__device__ __forceinline__ void finish_copies() {
  if constexpr (kBroken<TestBreak::kCopyNotWaitedFor>) copy_async_wait<0>();
}

// ---- which problems
// ----------------------------------------------------------------------------------------------------- 16-byte copies
// of every row, and a token stride that fits the kernels' 32-bit factor.
inline bool takes_copies(const HeadsView& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.batch % 8 == 0 && x.token % 8 == 0 && x.head % 8 == 0 &&
         x.token <= INT32_MAX;
}
// Pairs of float32.
inline bool takes_pairs(const HeadsView& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 8 == 0 && x.batch % 2 == 0 && x.token % 2 == 0 && x.head % 2 == 0;
}
inline bool tensor_cores_take(const AttentionProblem& p) {
  return p.type == Type::kBFloat16 && (p.head_size == 64 || p.head_size == 96 || p.head_size == 128) && p.scale > 0 &&
         takes_copies(p.q) && takes_copies(p.k) && takes_copies(p.v);
}

}  // namespace
}  // namespace carillon::cuda
