// What a block costs that goes to the second attention engine: how it is cut and what of the scratch area it takes.
// What attention_fused.cpp goes by, and `carillon plan` too (launch/plan/counting_backend.cpp, runtime/scratch.cpp). No
// CUDA here.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/attention_pieces.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon::cuda {

// What the workspace of a backward pass may be, as counted below.
inline constexpr int64_t kMostBackwardWorkspace = int64_t{5} << 28;  // 1.25 GiB

// cuDNN's forward pass: out and log-sum-exp of a block until they are merged, without cuDNN's own workspace, which is
// known on a device only.
constexpr int64_t fused_forward_bytes(int64_t batch, int64_t rows, int64_t heads, int64_t head_dim) {
  const int64_t statistics = batch * rows * heads;
  return round_up(statistics * head_dim * 2, 256) + round_up(statistics * 4, 256);
}

// cuDNN's deterministic backward pass on sm_90 by its frontend's source: dP in bfloat16 of rows padded to 64 and keys
// to 128; the row sums of dout · out; and where heads are grouped dk and dv of every query head.
constexpr int64_t fused_workspace_bytes(int64_t batch, int64_t rows, int64_t keys, int64_t heads, int64_t kv_heads,
                                        int64_t head_dim) {
  return batch * heads *
         (round_up(rows, 64) * round_up(keys, 128) * 2 + rows * 4 + (heads == kv_heads ? 0 : 2 * keys * head_dim * 2));
}
// Rows and keys of a block of its at most: attention_edge(), halved until the workspace is within its bound.
inline int64_t fused_edge(int64_t batch, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  int64_t edge = attention_edge();
  while (edge > 64 && fused_workspace_bytes(batch, edge, edge, heads, kv_heads, head_dim) > kMostBackwardWorkspace)
    edge /= 2;
  return edge;
}
// Its gradients until they are added, the log-sum-exp of its rows and that workspace.
constexpr int64_t fused_backward_bytes(int64_t batch, int64_t rows, int64_t keys, int64_t heads, int64_t kv_heads,
                                       int64_t head_dim) {
  return round_up(batch * rows * heads * 4, 256) + round_up(batch * rows * heads * head_dim * 4, 256) +
         2 * round_up(batch * keys * kv_heads * head_dim * 2, 256) +
         round_up(fused_workspace_bytes(batch, rows, keys, heads, kv_heads, head_dim), 256);
}

// Heads that cuDNN has plans for (asked for every multiple of 8 at the start, on the device).
constexpr bool fused_head_size(int64_t head_dim) { return head_dim % 8 == 0 && head_dim <= 256; }

}  // namespace carillon::cuda
