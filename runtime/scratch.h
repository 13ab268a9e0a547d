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
  // Elements of the largest operands of a product, for bfloat16 without hardware.
  int64_t hidden = 0;            // columns of the products whose inner dim is the largest
  int64_t widest_bias = 0;       // cuda: channels; 0 without any
  int64_t open_norms = 0;        // cuda: bytes of the sums of runs of all norms of a layer
  bool fused_attention = false;  // cuda: cuDNN's attention
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
// where heads at work is the number of threads when there are as many key/value heads and sequences as threads and at
// most 128 blocks of 96 keys, else 1. Both passes keep what they have. depth is 2 for bfloat16 on amx and
// avx512_bf16, else 1. Where bfloat16 has no hardware, float32 copies of a product's operands come on top. cuda: the
// largest that an op needs of the scratch area that all share (cuda/ops/launch_sizes.h), and the sums that
// finish_norms() adds; held against what they take by tests/cuda_emulation/counts_test.py.
size_t backend_scratch_bytes(const ScratchShape& shape);

}  // namespace carillon
