// The launch functions of the .cu files of this folder, one per op, with plain pointers, sizes and strides, so that
// nvcc compiles neither tensors nor fmt. Shapes and meanings are those of runtime/backend.h; CudaBackend has checked
// them.
//
// Strides are in elements. The elements of a row are contiguous unless the struct has a step. Every function queues its
// kernels on `stream` and returns the result of cudaLaunchKernelEx at once. With nothing to do it succeeds without a
// launch. T is the compute type, A its accumulate type (float64 for float64, else float32).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon::cuda {

// The values of DType (runtime/dtype.h).
enum class Type : int { kFloat64, kFloat32, kBFloat16, kInt64, kUInt8 };

// A matrix with rows `stride` elements apart.
struct Matrix {
  void* data = nullptr;
  int64_t stride = 0;
};
struct ConstMatrix {
  const void* data = nullptr;
  int64_t stride = 0;
};

// Tensors of one shape: rows of `length` elements that are `step` apart, indexed by `outer` dims, the last one fastest.
struct Elementwise {
  static constexpr int kOuter = 4;
  struct Operand {
    void* data = nullptr;
    Type type = Type::kFloat32;
    int64_t step = 1;
    int64_t stride[kOuter] = {};
  };
  Operand y, a, b;  // operands that an op lacks stay empty
  int outer = 0;
  int64_t size[kOuter] = {};
  int64_t rows = 1;  // product of size
  int64_t length = 0;
  double factor = 0;
};
cudaError_t launch_fill(const Elementwise& args, cudaStream_t stream);      // y = factor
cudaError_t launch_copy(const Elementwise& args, cudaStream_t stream);      // y = a; floating types, or one type
cudaError_t launch_add(const Elementwise& args, cudaStream_t stream);       // y += a
cudaError_t launch_sum(const Elementwise& args, cudaStream_t stream);       // y = a + b
cudaError_t launch_scale(const Elementwise& args, cudaStream_t stream);     // y *= factor
cudaError_t launch_soft_cap(const Elementwise& args, cudaStream_t stream);  // y = factor · tanh(y / factor)

// results[i] = Σ x² of tensors[i], of at least one element each, by a tree that depends on its count alone. partial:
// the sum of sum_of_squares_partials(count) doubles. Two kernels for up to 128 tensors.
struct Vector {
  const void* x;
  int64_t count;
};
cudaError_t launch_sums_of_squares(double* results, double* partial, const Vector* tensors, int64_t tensor_count,
                                   Type type, cudaStream_t stream);

// to[C] (A) += sums over the runs of partial[runs, C], in a fixed order; or = with `overwrite`. Of kRunsAtOnce of them
// at most, one launch.
struct Runs {
  void* to;
  const void* partial;
  int64_t runs, channels;
  bool overwrite = false;
};
cudaError_t launch_add_runs(const Runs* sums, int64_t count, Type accumulate, cudaStream_t stream);

struct Bias {
  Type type;
  int64_t rows, channels;
};
cudaError_t launch_add_bias(const Bias& shape, Matrix y, const void* bias, cudaStream_t stream);
// partial: row_runs(rows) · C of A.
cudaError_t launch_bias_backward(const Bias& shape, void* dbias, ConstMatrix dy, void* partial, cudaStream_t stream);

struct Embedding {
  Type type;
  const int64_t* ids;
  int64_t rows, channels, table_rows, first_row;
};
cudaError_t launch_embedding_forward(const Embedding& args, Matrix y, ConstMatrix table, cudaStream_t stream);
// keys: embedding_keys(rows) of them. partial: embedding_partials(rows) · C of A.
cudaError_t launch_embedding_backward(const Embedding& args, Matrix dtable, ConstMatrix dy, uint64_t* keys,
                                      void* partial, cudaStream_t stream);

// Rows of heads; a matrix has one head.
struct Heads {
  void* data = nullptr;
  int64_t row = 0, head = 0;
};
struct Rmsnorm {
  Type type;
  int64_t rows, heads, channels;
  const void* weight;
  double offset = 0;           // of the weight
  const void* sums = nullptr;  // [rows] of A, over `columns` of a whole row; null: rows are whole
  int64_t columns = 0;
};
// branch and sum with data: sum = x + branch first, whose norm it is then.
cudaError_t launch_rmsnorm_forward(const Rmsnorm& shape, Heads y, Heads rstd, Heads x, double epsilon,
                                   cudaStream_t stream, Heads branch = {}, Heads sum = {});
// partial: row_runs(rows · heads) · C of A, becomes the runs' sums for the gradient by the weight. y: no data: not
// wanted again.
cudaError_t launch_rmsnorm_backward(const Rmsnorm& shape, Heads dx, Heads y, Heads dy, Heads x, Heads rstd,
                                    bool accumulate, void* partial, cudaStream_t stream);

// x[n] *= factor[n] (A).
struct ScaleRows {
  Type type;
  int64_t rows, heads, channels;
  Heads x;
  const void* factor;
};
cudaError_t launch_scale_rows(const ScaleRows& args, cudaStream_t stream);
// Words and threshold as in runtime/dropout.h.
struct DropoutRows {
  Type type;
  int64_t rows, channels;
  Matrix y;
  ConstMatrix x;
  const int64_t* row;
  uint64_t key;
  int64_t first_column;
  uint32_t threshold;
  double scale;
  bool accumulate;
};
cudaError_t launch_dropout(const DropoutRows& args, cudaStream_t stream);
// A part of a quantised matrix (runtime/quantization.h).
struct Dequantize {
  Type type;
  Matrix y;
  int64_t rows, width, first_row, first_column, columns, row_blocks;
  bool nf4;  // else int8
  const uint8_t* codes;
  const void* scales;  // float, of nf4 uint8_t
  const float* table;  // nf4
};
cudaError_t launch_dequantize(const Dequantize& args, cudaStream_t stream);
// sums[n] (A) = Σ a·b, or Σ a·b·(offset + weight) unless weight is null.
struct RowDot {
  Type type;
  int64_t rows, channels;
  ConstMatrix a, b;
  const void* weight;
  double offset;
  void* sums;
};
cudaError_t launch_row_dot(const RowDot& args, cudaStream_t stream);

struct Rotate {
  Type type;
  Heads x;
  int64_t rows, heads, pairs, table_rows;
  const int64_t* position;
  const void *cosine, *sine;  // [table_rows, pairs] of A, packed
  bool inverse;
  int* beyond;  // set to 1 if a position is beyond the table; that row is left unchanged
};
cudaError_t launch_rotate(const Rotate& args, cudaStream_t stream);

// rates[j] += Σ position[n] · Σ over heads of x[j]·dx[j + pairs] − x[j + pairs]·dx[j]. partial:
// rotation_gradient_bytes.
struct RotationGradient {
  Type type;
  Heads x, dx;
  int64_t rows, heads, pairs;
  const int64_t* position;
  double *rates, *partial;
};
cudaError_t launch_rotation_gradient(const RotationGradient& args, cudaStream_t stream);

struct Swiglu {
  Type type;
  int64_t rows, width;
  ConstMatrix gate, up;
  bool gelu = false;  // the gate's activation: gelu by its tanh formula; else silu
};
cudaError_t launch_swiglu_forward(const Swiglu& args, Matrix y, cudaStream_t stream);
cudaError_t launch_swiglu_backward(const Swiglu& args, Matrix dgate, Matrix dup, Matrix y, ConstMatrix dy,
                                   cudaStream_t stream);

struct CrossEntropy {
  Type type;  // of the logits
  int64_t rows, columns, first_column;
  ConstMatrix logits;
  void* maximum;    // [N] of A
  void* sum;        // [N] of A: sums[0]
  void* at_target;  // [N] of A: sums[1]
  const int64_t* target;
  double cap = 0;  // of the logits if they were capped, in which case the gradient includes the cap's; 0: none
};
cudaError_t launch_cross_entropy_maximum(const CrossEntropy& args, cudaStream_t stream);
cudaError_t launch_cross_entropy_sums(const CrossEntropy& args, cudaStream_t stream);
// If gradient.data is null, computes only the loss. A gradient that overlays the logits must not have a wider type.
cudaError_t launch_cross_entropy_finish(const CrossEntropy& args, void* loss, const void* weight, Matrix gradient,
                                        Type gradient_type, cudaStream_t stream);

// The factors of a step, as in runtime/reference/adamw.cpp.
struct AdamW {
  double gradient_scale, beta1, beta2, epsilon, decay, step_size, correction2;
};
struct AdamWOperands {
  void* weight;  // null: none
  void *master, *exp_avg, *exp_avg_sq;
  const void* gradient;
  int64_t count;  // at least one
  bool decays;
};
// type: A, the type of everything except the weights, which are of type A or bfloat16. One kernel per 60 tensors.
cudaError_t launch_adamw(const AdamW& step, Type type, Type weight_type, const AdamWOperands* tensors,
                         int64_t tensor_count, cudaStream_t stream);

}  // namespace carillon::cuda
