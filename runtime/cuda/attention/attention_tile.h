// Shared by the tensor-core attention kernels: tiles of bfloat16 rows in shared memory, and the products of a warp with
// them. Only attention_forward.cu and attention_backward.cu include this. Everything has internal linkage, because
// tests compile these files several times (injected_fault.h).
//
// A block has 4 warps. A warp owns 16 rows of the block's own side (queries in forward and dQ, keys in dK/dV), and the
// block walks over tiles of the other side. With g = l / 4 and t = l % 4, lane l of a warp holds rows g and g + 8 of
// the 16, and columns 2t and 2t + 1 of every 8 (tensor_core.h).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <cstdint>

#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/attention/attention_launch.h"
#include "runtime/cuda/ops/injected_fault.h"
#include "runtime/cuda/ops/tensor_core.h"

namespace carillon::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 64;  // rows of a block's own side, 16 per warp
constexpr float kLog2E = 1.4426950408889634f;

// ---- tiles ---------------------------------------------------------------------------------------------------------
// The 16-byte chunks of a row are permuted so that the eight rows that ldmatrix reads at once, and the eight chunks
// that a copy writes at once, are in different banks. Rows of 64 or 128 elements begin at bank 0, so the permutation is
// an exclusive or with the row's number. Rows of 96 (12 chunks) begin alternately at banks 0 and 16, so two rows share
// a permutation of four chunks.
template <int kWidth>
__device__ __forceinline__ int permutation_of(int row) {
  return kWidth == 96 ? (row >> 1) & 3 : row & 7;
}
template <int kWidth>
__device__ __forceinline__ int element_of(int row, int chunk) {
  return row * kWidth + (chunk ^ permutation_of<kWidth>(row)) * 8;
}

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) & 31; }

// One row of a tile, from which a lane reads even chunks + `half`. Rows a multiple of 8 apart have the same
// permutation, so one exclusive or serves all of them, and their distance is a constant in the instruction.
template <int kWidth>
struct LaneRow {
  const __nv_bfloat16* begin;
  int turn;

  __device__ __forceinline__ LaneRow(const __nv_bfloat16* tile, int row, int half)
      : begin(tile + row * kWidth), turn(permutation_of<kWidth>(row) ^ half) {}
  __device__ __forceinline__ const __nv_bfloat16* chunk(int even) const { return begin + (even ^ turn) * 8; }
};

// Starts the copy of kCount rows; rows from `valid` (at least 1) on become zeros. kAcross threads copy a row together,
// so that all chunks of a thread have the same permutation and are constant distances apart in the tile.
template <int kWidth, int kCount>
__device__ __forceinline__ void copy_tile(__nv_bfloat16* tile, const __nv_bfloat16* from, int stride, int valid) {
  constexpr int kChunks = kWidth / 8, kAcross = kWidth == 96 ? 4 : kChunks, kDown = kThreads / kAcross;
  static_assert(kCount % kDown == 0 && kDown % 8 == 0 && kChunks % kAcross == 0);
  const int row = static_cast<int>(threadIdx.x) / kAcross, chunk = static_cast<int>(threadIdx.x) % kAcross;
  __nv_bfloat16* const to = tile + element_of<kWidth>(row, chunk);
  if (valid >= kCount) {
    const __nv_bfloat16* source = from + (static_cast<int64_t>(row) * stride + chunk * 8);
#pragma unroll
    for (int down = 0; down < kCount; down += kDown) {
#pragma unroll
      for (int across = 0; across < kChunks; across += kAcross)
        copy_async_16(to + down * kWidth + across * 8, source + across * 8, true);
      source += static_cast<int64_t>(stride) * kDown;
    }
  } else {
#pragma unroll
    for (int down = 0; down < kCount; down += kDown) {
      const bool inside = row + down < valid;
      const __nv_bfloat16* const source =
          from + (static_cast<int64_t>(inside ? row + down : valid - 1) * stride + chunk * 8);
#pragma unroll
      for (int across = 0; across < kChunks; across += kAcross)
        copy_async_16(to + down * kWidth + across * 8, source + across * 8, inside);
    }
  }
}

// d[16, 8·kTiles] += own[16, kWidth] · other[8·kTiles, kWidth]ᵀ; the own rows begin at row `row` of their tile.
template <int kWidth, int kTiles>
__device__ __forceinline__ void multiply_rows(float (&d)[kTiles][4], const __nv_bfloat16* own, int row,
                                              const __nv_bfloat16* other) {
  const int lane = lane_id();
  const LaneRow<kWidth> from(own, row + (lane & 15), lane >> 4);
  const LaneRow<kWidth> to(other, (lane & 7) + 8 * (lane >> 4), (lane >> 3) & 1);
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    uint32_t a[4];
    ldmatrix_x4(a, from.chunk(2 * k));
    const __nv_bfloat16* const chunk = to.chunk(2 * k);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      ldmatrix_x4(b, chunk + 8 * n * kWidth);
      mma_m16n8k16(d[n], a, b[0], b[1]);
      mma_m16n8k16(d[n + 1], a, b[2], b[3]);
    }
  }
}
// The same in two steps: load the warp's rows into registers, then multiply from there.
template <int kWidth>
__device__ __forceinline__ void load_rows(uint32_t (&own)[kWidth / 16][4], const __nv_bfloat16* tile, int row) {
  const LaneRow<kWidth> from(tile, row + (lane_id() & 15), lane_id() >> 4);
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) ldmatrix_x4(own[k], from.chunk(2 * k));
}
template <int kWidth, int kTiles>
__device__ __forceinline__ void multiply_rows(float (&d)[kTiles][4], const uint32_t (&own)[kWidth / 16][4],
                                              const __nv_bfloat16* other) {
  const int lane = lane_id();
  const LaneRow<kWidth> to(other, (lane & 7) + 8 * (lane >> 4), (lane >> 3) & 1);
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    const __nv_bfloat16* const chunk = to.chunk(2 * k);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      ldmatrix_x4(b, chunk + 8 * n * kWidth);
      mma_m16n8k16(d[n], own[k], b[0], b[1]);
      mma_m16n8k16(d[n + 1], own[k], b[2], b[3]);
    }
  }
}

// d[16, kWidth] += weights[16, 16·kSteps] · other[16·kSteps, kWidth].
template <int kWidth, int kSteps>
__device__ __forceinline__ void multiply_columns(float (&d)[kWidth / 8][4], const uint32_t (&weights)[kSteps][4],
                                                 const __nv_bfloat16* other) {
  const LaneRow<kWidth> from(other, lane_id() & 15, lane_id() >> 4);
#pragma unroll
  for (int n = 0; n < kWidth / 8; n += 2) {
    const __nv_bfloat16* const chunk = from.chunk(n);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, chunk + 16 * k * kWidth);
      mma_m16n8k16(d[n], weights[k], b[0], b[1]);
      mma_m16n8k16(d[n + 1], weights[k], b[2], b[3]);
    }
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

// Two neighbouring tiles of 8 columns of a product's result *are* the A operand of one step of 16 of the next product.
template <int kTiles>
__device__ __forceinline__ void pack_rows(uint32_t (&a)[kTiles / 2][4], const float (&d)[kTiles][4]) {
  constexpr int kUpper = kBroken<InjectedFault::kFragmentRowsSwapped> ? 2 : 0, kLower = 2 - kUpper;
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

// The barriers and waits of the loops, which an injected fault may remove.
template <InjectedFault kRemovedBy>
__device__ __forceinline__ void barrier() {
  if constexpr (!kBroken<kRemovedBy>) __syncthreads();
}
__device__ __forceinline__ void wait_for_copies() {
  copy_async_wait<kBroken<InjectedFault::kCopyNotWaitedFor> ? 1 : 0>();
}
// After a loop nothing is in flight, except with the injected fault; a thread must not end with copies in flight.
__device__ __forceinline__ void finish_copies() {
  if constexpr (kBroken<InjectedFault::kCopyNotWaitedFor>) copy_async_wait<0>();
}

// ---- supported problems --------------------------------------------------------------------------------------------
// Whether every row can be copied 16 bytes at a time, and the token stride fits into 32 bits as the kernels need it.
inline bool takes_copies(const HeadsView& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.batch % 8 == 0 && x.token % 8 == 0 && x.head % 8 == 0 &&
         x.token <= INT32_MAX;
}
// Pairs of elements of so many bytes, float32's or bfloat16's.
inline bool takes_pairs(const HeadsView& x, size_t bytes = 4) {
  return reinterpret_cast<uintptr_t>(x.data) % (2 * bytes) == 0 && x.batch % 2 == 0 && x.token % 2 == 0 &&
         x.head % 2 == 0;
}
inline bool tensor_cores_take(const AttentionProblem& p) {
  return p.type == Type::kBFloat16 && (p.head_size == 64 || p.head_size == 96 || p.head_size == 128) && p.scale > 0 &&
         takes_copies(p.q) && takes_copies(p.k) && takes_copies(p.v);
}

}  // namespace
}  // namespace carillon::cuda
