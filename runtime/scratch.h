// Memory that backends allocate for themselves, in addition to the tensors of a run: attention's packed operands,
// operands widened for lack of hardware, partial sums. `carillon plan` computes it from the largest calls of a step,
// without a device. The formulas use the same constants as the ops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/dtype.h"

namespace carillon {

// The largest calls of a training step on one rank.
struct ScratchShape {
  std::string device = "cpu";   // cpu | cuda
  std::string instruction_set;  // of the CPU; decides whether bfloat16 is multiplied in pairs
  DType compute = DType::kBFloat16;
  int threads = 1;
  int64_t batch = 1;                              // B
  int64_t queries = 0;                            // Tl: rows of a sequence on this rank
  int64_t keys = 0;                               // of the longest block: Tl
  int64_t heads = 0, kv_heads = 0, head_dim = 0;  // of this rank
  int64_t hidden = 0;                             // columns of the products with the largest inner dimension
  int64_t widest_bias = 0;                        // cuda: channels of the widest bias; 0 if there is none
  int64_t open_norms = 0;                         // cuda: bytes of the partial sums of all norms of a layer
  bool fused_attention = false;                   // cuda: whether cuDNN's attention runs
  // Elements of the largest operands of a product, which are converted if bfloat16 has no hardware.
  int64_t largest_left = 0, largest_right = 0, largest_result = 0;
};

// Returns the scratch memory of a backend in bytes.
//
// CPU, with w = ceil(HD/depth) words of type A per row (on amx rounded up to a multiple of 16), p = HD rounded up to
// 16, n = Tl rounded up to 64:
//   forward   B·NKVl·n·(w + p/depth)·A  packed keys and values of all heads
//             + threads · (96·(w + p + 2 + 256))·A  one block of queries
//   backward  heads at work · [keys and queries of one head: rows k, v 2·Tl·w; panels q, dout 2·n·w; lanes k, q, dout
//             3·n·p/depth; lse, delta 2·n; dq 2·Tl·p]·A
//             + threads · (3·96·192 + 2·96·p)·A
//   both      B·Tl·16 for the visible keys of each row
//   products  a packed copy of the largest second operand (matmul.cpp), except in float64
// where "heads at work" is the number of threads if B·NKVl is at least that number and there are at most 128 blocks of
// 96 keys, else 1. Both passes keep their memory between calls. depth is 2 for bfloat16 on amx and avx512_bf16, else 1.
// If bfloat16 has no hardware, float32 copies of a product's operands are added.
//
// CUDA: the largest part of the shared scratch area that any op needs (cuda/ops/launch_sizes.h), plus the partial sums
// that finish_norms() adds up. tests/cuda_emulation/counts_test.py compares this with what the ops allocate.
size_t backend_scratch_bytes(const ScratchShape& shape);

// Returns the bytes of the partial sums that a norm of [rows, channels] leaves open until finish_norms(), on CUDA.
int64_t open_norm_bytes(int64_t rows, int64_t channels, DType compute);

}  // namespace carillon
