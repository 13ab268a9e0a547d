// A backend in front of another: every op passes through one hook, around(), which sees the op's name and its tensors
// and may act before, after or instead of the op. Tracing (traced_backend.h), the planner's counting
// (launch/plan/counting_backend.h) and the tests' backends with closed or moved memory (tests/support) are subclasses
// with different hooks, so one line in forwarding_backend.cpp makes a new op known to all of them.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/backend.h"

namespace carillon {

// "matmul"
const char* name_of(OpKind op);

#define CARILLON_COUNT_OP(op) +1
inline constexpr size_t kOpKinds = 0 CARILLON_OPS(CARILLON_COUNT_OP);
#undef CARILLON_COUNT_OP

// One call of an op.
struct OpCall {
  OpKind op;
  // The op's tensors in the order of its parameters, absent ones included. An AttentionState stands for its
  // accumulator, maximum and sum, a mask its query_index, first and key_index, AttentionEnds sinks, out and lse,
  // AttentionGradientEnds result_dq, result_dk, result_dv, position, cosine and sine, NormOptions sums and output,
  // AdamWTensors weight, master, exp_avg, exp_avg_sq and gradient, a QuantizedMatrix codes, scales and table. The op
  // receives the tensors that are here when `run` is called, so a hook may replace them.
  std::vector<Tensor> operands;
  MaskShape mask;                                                // of an op with a mask
  size_t mask_at = 0;                                            // where among the operands the mask's are
  bool first = false, first_keys = false, delta_wanted = false;  // of attention's ends
  bool deferred = false;                                         // of rmsnorm_backward
  std::vector<Transpose> transposes;                             // of matmul: of a, of b
  bool flag = false;                                             // the op's bool: accumulate; of rotate: inverse
  double result = 0;                                             // of sum_of_squares: what run() or the hook sets
};

class ForwardingBackend : public Backend {
 public:
  DeviceDescription describe() const override { return inner_->describe(); }
  Buffer allocate(size_t bytes) override { return inner_->allocate(bytes); }
  void upload(Tensor device, Tensor host) override { inner_->upload(device, host); }
  void download(Tensor host, Tensor device) override { inner_->download(host, device); }
  void synchronize() override { inner_->synchronize(); }
  void* queue() override { return inner_->queue(); }
  bool unified() const override { return inner_->unified(); }
  DeviceMemory memory() override { return inner_->memory(); }
  bool holds(const void* pointer) const override { return inner_->holds(pointer); }
  Buffer allocate_host(size_t bytes) override { return inner_->allocate_host(bytes); }
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override { return inner_->start_upload(device, host); }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    return inner_->start_download(host, device);
  }

  CARILLON_OPS(CARILLON_DECLARE_OP)

 protected:
  // `inner` may be null if the hook never runs an op and the functions above are overridden.
  explicit ForwardingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}
  Backend& inner() const { return *inner_; }

  // The hook: run() executes the op on the inner backend.
  virtual void around(OpCall& call, const std::function<void()>& run) = 0;

 private:
  template <auto op, class... Arguments>
  double pass(OpKind kind, const Arguments&... arguments);

  std::unique_ptr<Backend> inner_;
};

}  // namespace carillon
