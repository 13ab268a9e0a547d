// libcarillon_cudnn_emulated.so: replaces libcarillon_cudnn.so on emulated devices (CARILLON_CUDNN_LIBRARY).
#include "runtime/cuda/attention/fused_attention.h"

#include <array>
#include <set>

#include "runtime/cuda/attention/fused_sizes.h"
#include "runtime/cuda/check_cuda.h"
#include "tests/cuda_emulation/block_attention.h"

namespace carillon::cuda {
namespace {

using carillon_emulation::BlockAttention;
using carillon_emulation::BlockHeads;

BlockHeads heads(const HeadsView& x) { return {x.data, x.batch, x.token, x.head}; }

BlockAttention block_of(const FusedBlock& b) {
  BlockAttention block{};
  block.batch = b.batch, block.rows = b.rows, block.keys = b.keys;
  block.heads = b.heads, block.kv_heads = b.kv_heads, block.head_size = b.head_size;
  block.causal = b.mask == BlockMask::kCausal;
  block.scale = b.scale;
  block.q = heads(b.q), block.k = heads(b.k), block.v = heads(b.v);
  return block;
}

class EmulatedEngine : public FusedAttention {
 public:
  explicit EmulatedEngine(int64_t most_plans) : most_plans_(most_plans) {}
  std::string name() const override { return "cuDNN (emulated)"; }
  // Some bytes, so that a missing workspace is detected; every call overwrites them.
  int64_t workspace(const FusedForward& call) override { return planned(call.block, false) ? 4096 : kNoPlan; }
  // The same size that `carillon plan` counts.
  int64_t workspace(const FusedBackward& call) override {
    const FusedBlock& b = call.block;
    return planned(b, true) ? fused_workspace_bytes(b.batch, b.rows, b.keys, b.heads, b.kv_heads, b.head_size)
                            : kNoPlan;
  }
  void run(const FusedForward& call, void* memory, cudaStream_t stream) override {
    CHECK(planned(call.block, false), "the engine has a plan");
    BlockAttention block = block_of(call.block);
    block.out = heads(call.out), block.lse = call.lse;
    start(block, memory, workspace(call), stream);
  }
  void run(const FusedBackward& call, void* memory, cudaStream_t stream) override {
    BlockAttention block = block_of(call.block);
    block.backward = true;
    block.out = heads(call.out), block.dout = heads(call.dout), block.lse = const_cast<float*>(call.lse);
    block.dq = heads(call.dq), block.dk = heads(call.dk), block.dv = heads(call.dv);
    start(block, memory, workspace(call), stream);
  }

 private:
  bool planned(const FusedBlock& b, bool backward) {
    const std::array<int64_t, 8> shape{backward, b.batch,    b.rows,      b.keys,
                                       b.heads,  b.kv_heads, b.head_size, static_cast<int64_t>(b.mask)};
    if (plans_.contains(shape)) return true;
    if (most_plans_ > 0 && static_cast<int64_t>(plans_.size()) >= most_plans_) return false;
    plans_.insert(shape);
    return true;
  }
  static void start(BlockAttention& block, void* memory, int64_t bytes, cudaStream_t stream) {
    block.workspace = memory, block.workspace_bytes = bytes;
    if (const int error = carillon_emulation_block_attention(&block, stream); error != 0)
      throw InternalError(fmt::format("emulated attention: error {}", error));
  }

  int64_t most_plans_;
  std::set<std::array<int64_t, 8>> plans_;
};

}  // namespace
}  // namespace carillon::cuda

extern "C" __attribute__((visibility("default"))) carillon::cuda::FusedAttention* carillon_make_fused_attention(
    int, int64_t most_plans) {
  return new carillon::cuda::EmulatedEngine(most_plans);
}
