// Attention of one block of keys as a library like cuDNN computes it: a whole block, on a stream, bfloat16 in and out,
// float32 inside. libcarillon_cudnn_emulated.so queues it on an emulated stream; the device process computes it.
#pragma once

#include <cstdint>

#include "emulation/runtime_api.h"
#include "options.h"

namespace carillon_emulation {

struct BlockHeads {
  void* data;
  std::int64_t batch, token, head;  // strides in elements
};
struct BlockAttention {
  std::int64_t batch, rows, keys;
  int heads, kv_heads, head_size;
  bool causal, backward;
  double scale;
  BlockHeads q, k, v, out;      // bfloat16; out is a result of the forward pass, an operand of the backward pass
  float* lse;                   // [B, NH, Tq]; likewise
  BlockHeads dout, dq, dk, dv;  // backward pass only; dq is float32, the others bfloat16
  void* workspace;              // overwritten with NaN
  std::int64_t workspace_bytes;
  Options::Attention mistake;
};

// Returns an error if an operand is not inside one allocation of the stream's device, or not aligned to 16 bytes.
cudaError_t start_block_attention(const BlockAttention& block, cudaStream_t stream);

}  // namespace carillon_emulation

extern "C" {
// The same, exported by libcarillon_cuda_emulated.so to the engine's library, which uses the same devices.
int carillon_emulation_block_attention(const carillon_emulation::BlockAttention* block, cudaStream_t stream);
}
