// What a backend keeps for itself beside the arena: attention's packed operands, operands widened for want of hardware.
// One formula, to be kept in step with runtime/cpu/attention_{forward,backward}.cpp and matmul.cpp.
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
  int64_t hidden = 0;                          // columns of the products whose inner dim is the largest
  int64_t widest_bias = 0;                     // cuda: channels; 0 without any
  bool fused_attention = false, ring = false;  // cuda: cuDNN's attention; keys come from other ranks too
  int64_t largest_left = 0, largest_right = 0, largest_result = 0;
};

// CPU, with w = ceil(HD/depth) words of type A a row (on amx a multiple of 16), p = HD rounded up to 16, n = Tl rounded
// up to 64:
//   forward   B·NKVl·n·(w + p/depth)·A  packed keys and values of all heads
//             + threads · (96·(w + p + 2 + 256))·A  a block of queries
//   backward  heads at work · [keys and queries of one head: rows k, v 2·Tl·w; panels q, dout 2·n·w; lanes k, q, dout
//             3·n·p/depth; lse, delta 2·n; dq 2·Tl·p]·A
//             + threads · (3·96·192 + 2·96·p)·A
//   both      B·Tl·16 visible keys of each row
//   products  the largest second operand once more, packed (matmul.cpp), unless in float64
// where heads at work is the number of threads when there are as many key/value heads and sequences as threads and at
// most 128 blocks of 96 keys, else 1. Both passes keep what they have. depth is 2 for bfloat16 on amx and
// avx512_bf16, else 1. Where bfloat16 has no hardware, float32 copies of a product's operands come on top. cuda:
// see cuda_scratch, the largest of them.
size_t backend_scratch_bytes(const ScratchShape& shape);

// What ops of runtime/cuda want of the scratch area that they share, in bytes, from its launch_sizes.h; held against
// what they take by tests/cuda_emulation/counts_test.py.
namespace cuda_scratch {

inline constexpr int64_t kFlag = 4;  // of a position beyond the table: an allocation of its own

int64_t row_sums(int64_t rows, int64_t channels, DType wide);  // bias_backward, rmsnorm_backward
// cuDNN's attention: out and log-sum-exp of a block until they are merged, without cuDNN's own workspace, which is
// known on a device only.
int64_t fused_forward(int64_t batch, int64_t rows, int64_t heads, int64_t head_dim);
// Gradients until they are added, and the workspace of cuDNN's deterministic backward pass on sm_90; 0 where that is
// more than the backend lets it have: own kernels then.
int64_t fused_backward(int64_t batch, int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim);
int64_t sum_of_squares(int64_t count);      // of each of its tensors
int64_t squares_launches(int64_t tensors);  // of sum_of_squares, of each of its two kernels
int64_t adamw_launches(int64_t tensors);
int64_t sort_keys(int64_t rows);     // of embedding_backward: their number, 8 bytes each
int64_t sort_kernels(int64_t rows);  // … and the launches that sort them

}  // namespace cuda_scratch

}  // namespace carillon
