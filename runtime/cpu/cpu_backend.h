// The fast backend for CPUs: matrix products through oneDNN (float64 through OpenBLAS), the rest by kernels chosen at
// run time for the processor's instruction set, threads by OpenMP. What is not overridden is the reference's.
//
// Deterministic: sums are formed in an order that depends on shapes alone, not on the number of threads (products: on
// theirs too, since oneDNN and OpenBLAS split the work by it).
#pragma once

#include <memory>
#include <mutex>

#include "runtime/cpu/kernels.h"
#include "runtime/reference/reference_backend.h"

namespace carillon {

class CpuBackend : public ReferenceBackend {
 public:
  explicit CpuBackend(const BackendOptions& options);
  ~CpuBackend() override;

  DeviceDescription describe() const override;

  void fill(Tensor x, double value) override;
  void copy(Tensor y, Tensor x) override;
  void add(Tensor y, Tensor x) override;
  void sum(Tensor y, Tensor a, Tensor b) override;
  void scale(Tensor x, double factor) override;
  void scale_rows(Tensor x, Tensor factor) override;
  void row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) override;
  double sum_of_squares(std::span<const Tensor> tensors) override;

  void matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, bool accumulate) override;

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
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor lse,
                          Tensor delta, const AttentionMask& mask, double scale) override;

  void cross_entropy_maximum(Tensor maximum, Tensor logits) override;
  void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) override;
  void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums, Tensor target,
                            Tensor weight, int64_t first_column, double cap) override;

  void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) override;

 private:
  // Keeps oneDNN to the instructions of `set`: for the whole process, and only before its first product; a later change
  // is refused by oneDNN and would be none.
  static void lower_libraries(InstructionSet set);
  struct Products;  // oneDNN's engine, stream and primitives by shape (matmul.cpp)
  struct Scratch;   // attention's packed operands; grows, never shrinks (attention.cpp)
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  struct ProductsDeleter {
    void operator()(Products* products) const;
  };
  Products& products();
  Scratch& scratch();

  InstructionSet instruction_set_;
  int threads_;
  std::unique_ptr<Products, ProductsDeleter> products_;
  std::unique_ptr<Scratch, ScratchDeleter> scratch_;
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace carillon
