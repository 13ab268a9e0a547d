// The fast backend for CPUs: matrix products through oneDNN (float64 through OpenBLAS), all else by kernels chosen at
// run time for the processor's instruction set, with OpenMP threads. Ops not overridden here run as in the reference.
//
// Deterministic: the order of summation depends only on shapes, not on the number of threads. Products of more than a
// few rows are the exception: oneDNN and OpenBLAS split their work by the number of threads, so their order depends on
// it too.
#pragma once

#include <memory>
#include <mutex>

#include "runtime/cpu/growing_buffer.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/thread_choice.h"
#include "runtime/reference/reference_backend.h"

namespace carillon {

class CpuBackend : public ReferenceBackend {
 public:
  explicit CpuBackend(const BackendOptions& options);
  ~CpuBackend() override;

  DeviceDescription describe() const override;

  Op<&Backend::fill> fill;
  Op<&Backend::copy> copy;
  Op<&Backend::add> add;
  Op<&Backend::sum> sum;
  Op<&Backend::scale> scale;
  Op<&Backend::scale_rows> scale_rows;
  Op<&Backend::dropout> dropout;
  Op<&Backend::dequantize> dequantize;
  Op<&Backend::row_dot> row_dot;
  Op<&Backend::sum_of_squares> sum_of_squares;
  Op<&Backend::matmul> matmul;
  Op<&Backend::rmsnorm_forward> rmsnorm_forward;
  Op<&Backend::sum_rmsnorm_forward> sum_rmsnorm_forward;
  Op<&Backend::rmsnorm_backward> rmsnorm_backward;
  Op<&Backend::rotate> rotate;
  Op<&Backend::swiglu_forward> swiglu_forward;
  Op<&Backend::swiglu_backward> swiglu_backward;
  Op<&Backend::attention_begin> attention_begin;
  Op<&Backend::attention_forward> attention_forward;
  Op<&Backend::attention_finish> attention_finish;
  Op<&Backend::attention_delta> attention_delta;
  Op<&Backend::attention_backward> attention_backward;
  Op<&Backend::cross_entropy_maximum> cross_entropy_maximum;
  Op<&Backend::cross_entropy_sums> cross_entropy_sums;
  Op<&Backend::cross_entropy_finish> cross_entropy_finish;
  Op<&Backend::adamw> adamw;

 private:
  // Restricts oneDNN to the instructions of `set`, for the whole process. Must be called before oneDNN's first product;
  // later calls have no effect.
  static void lower_libraries(InstructionSet set);
  struct Products;  // oneDNN's engine, stream and primitives by shape (matmul.cpp)
  struct Scratch;   // attention's packed operands; grows, never shrinks (attention_scratch.h)
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  struct ProductsDeleter {
    void operator()(Products* products) const;
  };
  Products& products();
  Scratch& scratch();
  // Whether update() should compute c += a · op(b): products of adapters, at which oneDNN is slow (update.cpp).
  bool takes_update(const Tensor& c, const Tensor& a, bool transpose_a, bool accumulate) const;
  void update(Tensor c, Tensor a, Tensor b, bool transpose_b);
  // Whether c = a · bᵀ, or attention of the queries q, has so few rows that reading b, or the keys, decides its time;
  // and how it is then computed (few_rows.cpp). The attention finds what the rows see in the scratch.
  bool takes_few_rows(const Tensor& c, bool transpose_a, bool transpose_b) const;
  bool takes_few_rows(const Tensor& q) const;
  void few_rows_product(Tensor c, Tensor a, Tensor b, bool accumulate);
  void few_rows_attention(const AttentionState& state, Tensor q, Tensor k, Tensor v, double scale);
  // Threads for an op on `elements` elements, and for one of so many multiply-adds: one below the size at which waking
  // the others pays. On a busy machine it never does for small ops: each waits for a thread that is not running.
  int threads_for(int64_t elements) const { return elements > 16384 ? threads_ : 1; }
  int threads_for_products(int64_t multiply_adds) const { return multiply_adds > int64_t{1} << 18 ? threads_ : 1; }

  InstructionSet instruction_set_;
  int threads_;
  std::unique_ptr<Products, ProductsDeleter> products_;
  std::unique_ptr<Scratch, ScratchDeleter> scratch_;
  GrowingBuffer packed_right_;  // of update()
  GrowingBuffer few_rows_;      // widened rows of a product; the numbers of attention's pieces
  cpu::ThreadChoice few_rows_threads_;
};

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

}  // namespace carillon
