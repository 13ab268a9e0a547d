// A second attention engine: one that computes one block of keys at a time, whole, and hands back its output and
// log-sum-exp. cuDNN's fused attention is one (cudnn_attention.cpp); a wgmma kernel of our own could be another.
// Nothing here knows cuDNN.
//
// It lies in a library of its own, libcarillon_cudnn.so, loaded only when runtime.attention asks for it: cuDNN is half
// a gigabyte that many machines lack, and libcarillon_cuda.so must load there. A library of its own, rather than the
// dynamic loading of cuDNN's headers, also gives those headers, which take a minute to compile, one file with its own
// flags. Tests put another one in its place (tests/cuda_emulation/fused_attention.cpp).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/cuda/attention/attention_kernels.h"

namespace carillon::cuda {

// kFull: every row sees every key. kCausal: as many rows as keys, row i sees keys 0 … i.
enum class BlockMask : int { kFull, kCausal };

// One block: bfloat16 q [B, Tq, NH, HD], k and v [B, Tk, NKV, HD]. A score is scale · q·k.
struct FusedBlock {
  int64_t batch = 0, rows = 0, keys = 0;  // B, Tq, Tk
  int heads = 0, kv_heads = 0, head_size = 0;
  BlockMask mask = BlockMask::kFull;
  double scale = 1;
  HeadsView q, k, v;
};
// out [B, Tq, NH, HD] bfloat16; lse [B, NH, Tq] float32, packed: log of the sum over the block's keys of exp(score).
// Both are overwritten.
struct FusedForward {
  FusedBlock block;
  HeadsView out;
  float* lse = nullptr;
};
// From out and lse over all keys, not this block's alone: so the parts of several blocks add up. dq float32, dk and dv
// bfloat16, all overwritten. Deterministic, or no plan.
struct FusedBackward {
  FusedBlock block;
  HeadsView out, dout;         // bfloat16
  const float* lse = nullptr;  // packed
  HeadsView dq, dk, dv;
};

class FusedAttention {
 public:
  static constexpr int64_t kNoPlan = -1;

  virtual ~FusedAttention() = default;
  virtual std::string name() const = 0;  // "cuDNN 9.19.0"
  // Bytes of device memory that the call needs as workspace; kNoPlan where the engine cannot do it. The plan is made at
  // the first question about a shape (seconds) and kept: by sizes, mask, scale and strides, not by addresses.
  virtual int64_t workspace(const FusedForward& call) = 0;
  virtual int64_t workspace(const FusedBackward& call) = 0;
  // Puts the call on the stream and returns. Error 70 where the engine fails.
  virtual void run(const FusedForward& call, void* workspace, cudaStream_t stream) = 0;
  virtual void run(const FusedBackward& call, void* workspace, cudaStream_t stream) = 0;
};

// What an engine's library exports, with a C name: "carillon_make_fused_attention". Exceptions cross. most_plans: what
// has another shape than so many before it has no plan; 0: as many as there are shapes.
using MakeFusedAttention = FusedAttention*(int device, int64_t most_plans);

struct FusedLibrary {
  std::unique_ptr<FusedAttention> engine;
  std::string why, remedy;  // where there is none, or cuDNN is missing
};
// The engine for this device. The library: environment CARILLON_CUDNN_LIBRARY if set, else libcarillon_cudnn.so beside
// libcarillon_cuda.so, and so of the emulated twin.
FusedLibrary load_fused_attention(int device, int64_t most_plans);

}  // namespace carillon::cuda
