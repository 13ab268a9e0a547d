// The interface of a second attention engine, which computes a whole block of keys at a time and returns its output and
// log-sum-exp. cuDNN's fused attention is one (cudnn_attention.cpp); our own wgmma kernel could be another. Nothing
// here depends on cuDNN.
//
// The engine is in a separate library, libcarillon_cudnn.so, which is loaded only if runtime.attention asks for it:
// cuDNN is half a gigabyte that many machines lack, and libcarillon_cuda.so must load there too. Unlike the dynamic
// loading that cuDNN's headers offer, a separate library also confines those headers, which take a minute to compile,
// to one file with its own flags. Tests substitute another library (tests/cuda_emulation/fused_attention.cpp).
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
// out and lse are those over all keys, not only this block's, so that the results of several blocks add up. dq float32,
// dk and dv bfloat16, all overwritten. If the engine is not deterministic, it has no plan.
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
  // Returns the bytes of device memory that the call needs as workspace; kNoPlan if the engine cannot compute it. The
  // first query of a shape makes the plan (seconds), which is kept by sizes, mask, scale and strides, not by addresses.
  virtual int64_t workspace(const FusedForward& call) = 0;
  virtual int64_t workspace(const FusedBackward& call) = 0;
  // Queues the call on the stream and returns. Throws error 70 if the engine fails.
  virtual void run(const FusedForward& call, void* workspace, cudaStream_t stream) = 0;
  virtual void run(const FusedBackward& call, void* workspace, cudaStream_t stream) = 0;
};

// Exported by an engine's library with the C name "carillon_make_fused_attention". May throw. most_plans: the maximum
// number of plans, after which further shapes get no plan; 0: unlimited.
using MakeFusedAttention = FusedAttention*(int device, int64_t most_plans);

struct FusedLibrary {
  std::unique_ptr<FusedAttention> engine;
  std::string why, remedy;  // if there is no engine, or cuDNN is missing
};
// Loads the engine for this device. The library is the file in the environment variable CARILLON_CUDNN_LIBRARY if set,
// else libcarillon_cudnn.so in the folder of libcarillon_cuda.so; likewise for the emulated library.
FusedLibrary load_fused_attention(int device, int64_t most_plans);

}  // namespace carillon::cuda
