// Attention of one block of keys, as a library like cuDNN computes it: whole, on a stream, bfloat16 in and out, float32
// inside. What libcarillon_cudnn_emulated.so puts on an emulated stream, and its doing in the device process.
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
  BlockHeads dout, dq, dk, dv;  // of the backward pass alone; dq is float32, the others bfloat16
  void* workspace;              // spoiled
  std::int64_t workspace_bytes;
  Options::Attention mistake;
};

// Error where an operand is not inside one allocation of the stream's device, or not aligned to 16 bytes.
cudaError_t start_block_attention(const BlockAttention& block, cudaStream_t stream);

}  // namespace carillon_emulation

extern "C" {
// The same, exported by libcarillon_cuda_emulated.so to the library of the engine, which shares its devices.
int carillon_emulation_block_attention(const carillon_emulation::BlockAttention* block, cudaStream_t stream);
}
