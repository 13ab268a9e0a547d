// How calls of the second attention engine are cut into blocks, and how much of the scratch area these take. Used by
// attention_fused.cpp and by `carillon plan` (launch/plan/counting_backend.cpp, runtime/scratch.cpp). Does not use
// CUDA.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/attention_pieces.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon::cuda {

// The limit on the workspace of a backward pass, as computed below.
inline constexpr int64_t kMostBackwardWorkspace = int64_t{5} << 28;  // 1.25 GiB

// Bytes for cuDNN's forward pass: out and log-sum-exp of a block until they are merged. Excludes cuDNN's own workspace,
// which is known only on a device.
constexpr int64_t fused_forward_bytes(int64_t batch, int64_t rows, int64_t heads, int64_t head_dim) {
  const int64_t statistics = batch * rows * heads;
  return round_up(statistics * head_dim * 2, 256) + round_up(statistics * 4, 256);
}

// The workspace of cuDNN's deterministic backward pass on sm_90, from the source of its frontend: dP in bfloat16 with
// rows padded to 64 and keys to 128; the row sums of dout · out; and, if heads are grouped, dk and dv of every query
// head.
constexpr int64_t fused_workspace_bytes(int64_t batch, int64_t rows, int64_t keys, int64_t heads, int64_t kv_heads,
                                        int64_t head_dim) {
  return batch * heads *
         (round_up(rows, 64) * round_up(keys, 128) * 2 + rows * 4 + (heads == kv_heads ? 0 : 2 * keys * head_dim * 2));
}
// The maximum number of rows, and of keys, of a block: attention_edge(), halved until the workspace is within the
// limit.
inline int64_t fused_edge(int64_t batch, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  int64_t edge = attention_edge();
  while (edge > 64 && fused_workspace_bytes(batch, edge, edge, heads, kv_heads, head_dim) > kMostBackwardWorkspace)
    edge /= 2;
  return edge;
}
// Bytes for a block's backward pass: its gradients until they are added, the log-sum-exp of its rows and the workspace.
constexpr int64_t fused_backward_bytes(int64_t batch, int64_t rows, int64_t keys, int64_t heads, int64_t kv_heads,
                                       int64_t head_dim) {
  return round_up(batch * rows * heads * 4, 256) + round_up(batch * rows * heads * head_dim * 4, 256) +
         2 * round_up(batch * keys * kv_heads * head_dim * 2, 256) +
         round_up(fused_workspace_bytes(batch, rows, keys, heads, kv_heads, head_dim), 256);
}

// Head sizes that cuDNN has plans for (the start-up comparison on the device checks this for the model's size).
constexpr bool fused_head_size(int64_t head_dim) { return head_dim % 8 == 0 && head_dim <= 256; }

}  // namespace carillon::cuda
