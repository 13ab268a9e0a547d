// The definition of every op, in plain loops without any cleverness. Slow; what the other backends are tested against.
// One file an op, named after it.
#pragma once

#include "runtime/backend.h"

namespace carillon {

class ReferenceBackend : public Backend {
 public:
  DeviceDescription describe() const override;
  Buffer allocate(size_t bytes) override { return Buffer::host(bytes); }
  void upload(Tensor device, Tensor host) override { copy(device, host); }
  void download(Tensor host, Tensor device) override { copy(host, device); }
  void synchronize() override {}

  void fill(Tensor x, double value) override;
  void copy(Tensor y, Tensor x) override;
  void add(Tensor y, Tensor x) override;
  void sum(Tensor y, Tensor a, Tensor b) override;
  void scale(Tensor x, double factor) override;
  void scale_rows(Tensor x, Tensor factor) override;
  void row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) override;
  void soft_cap(Tensor x, double cap) override;
  double sum_of_squares(std::span<const Tensor> tensors) override;

  void matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, bool accumulate) override;
  void add_bias(Tensor y, Tensor bias) override;
  void bias_backward(Tensor dbias, Tensor dy) override;

  void embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) override;
  void embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) override;

  void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon,
                       const NormOptions& options) override;
  void rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                        bool accumulate, const NormOptions& options) override;

  void rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) override;

  void swiglu_forward(Tensor y, Tensor gate, Tensor up, GateActivation activation) override;
  void swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up,
                       GateActivation activation) override;

  void attention_begin(const AttentionState& state, Tensor sinks) override;
  void attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                         double scale) override;
  void attention_finish(Tensor out, Tensor lse, const AttentionState& state) override;
  void attention_delta(Tensor delta, Tensor dout, Tensor out) override;
  void attention_sinks_backward(Tensor dsinks, Tensor sinks, Tensor lse, Tensor delta) override;
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor lse,
                          Tensor delta, const AttentionMask& mask, double scale) override;

  void cross_entropy_maximum(Tensor maximum, Tensor logits) override;
  void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) override;
  void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums, Tensor target,
                            Tensor weight, int64_t first_column, double cap) override;

  void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) override;
};

}  // namespace carillon
