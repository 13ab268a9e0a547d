#include "parallel/tensor/sharded_linear.h"

namespace carillon {
namespace {

// Returns the weight; a quantised one is dequantised.
Tensor weight_of(Backend& backend, const Linear& linear, const LowRankWork& work) {
  if (linear.quantized.empty()) return linear.weight;
  const int64_t width = linear.quantized.front().width;
  int64_t rows = 0;
  for (const QuantizedMatrix& part : linear.quantized) rows += part.rows;
  const Tensor weight = work.base.rows(0, rows * width).reshape({rows, width});
  rows = 0;
  for (const QuantizedMatrix& part : linear.quantized) {
    if (part.rows > 0) backend.dequantize(weight.rows(rows, rows + part.rows), part);
    rows += part.rows;
  }
  return weight;
}

// y = x · weightᵀ plus the adapter's contribution, for rows that start at row `begin` of the pass.
void product(Backend& backend, Tensor y, Tensor x, Tensor weight, const LowRank& adapter, const LowRankWork& work,
             int64_t begin) {
  backend.matmul(y, x, weight, Transpose::kNo, Transpose::kYes);
  low_rank_forward(backend, y, x, adapter, work, begin);
}

void input_gradient(Backend& backend, Tensor dx, Tensor dy, Tensor weight, const LowRank& adapter,
                    const LowRankWork& work, int64_t begin) {
  backend.matmul(dx, dy, weight, Transpose::kNo, Transpose::kNo);
  low_rank_input_gradient(backend, dx, dy, adapter, work, begin);
}

}  // namespace

void column_parallel_forward(Backend& backend, Tensor y, Tensor x, const Linear& linear, const LowRankWork& work) {
  product(backend, y, x, weight_of(backend, linear, work), linear.adapter, work, 0);
  if (linear.bias) backend.add_bias(y, linear.bias);
}

void column_parallel_forward(Backend& backend, Tensor y, RowGather& x, const Linear& linear, const LowRankWork& work) {
  const Tensor weight = weight_of(backend, linear, work);
  for (int64_t c = 0; c < x.shards().chunks(); ++c) {
    const Range rows = x.shards().chunk(c);
    product(backend, y.rows(rows.begin, rows.end), x.rows(rows.begin, rows.end), weight, linear.adapter, work,
            rows.begin);
  }
  if (linear.bias) backend.add_bias(y, linear.bias);
}

void column_parallel_backward(Backend& backend, RowScatter& dx, Tensor dy, RowGather& x, const Linear& linear,
                              const LowRankWork& work, bool accumulate) {
  const Tensor weight = weight_of(backend, linear, work);
  for (int64_t c = 0; c < dx.shards().chunks(); ++c) {
    const Range rows = dx.shards().chunk(c);
    input_gradient(backend, dx.rows(rows.begin, rows.end), dy.rows(rows.begin, rows.end), weight, linear.adapter, work,
                   rows.begin);
    dx.done(rows.end);
  }
  linear_weight_gradient(backend, dy, x.all(), linear, work, accumulate);
  if (linear.bias_gradient) backend.bias_backward(linear.bias_gradient, dy);
  dx.finish();
}

void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, const Linear& linear, const LowRankWork& work) {
  product(backend, partial, x, weight_of(backend, linear, work), linear.adapter, work, 0);
}

void row_parallel_forward(Backend& backend, RowScatter& y, Tensor x, const Linear& linear, const LowRankWork& work) {
  const Tensor weight = weight_of(backend, linear, work);
  for (int64_t c = 0; c < y.shards().chunks(); ++c) {
    const Range rows = y.shards().chunk(c);
    product(backend, y.rows(rows.begin, rows.end), x.rows(rows.begin, rows.end), weight, linear.adapter, work,
            rows.begin);
    y.done(rows.end);
  }
  y.finish();
}

void linear_input_gradient(Backend& backend, Tensor dx, Tensor dy, const Linear& linear, const LowRankWork& work) {
  input_gradient(backend, dx, dy, weight_of(backend, linear, work), linear.adapter, work, 0);
}

void linear_input_gradient(Backend& backend, Tensor dx, RowGather& dy, const Linear& linear, const LowRankWork& work) {
  const Tensor weight = weight_of(backend, linear, work);
  for (int64_t c = 0; c < dy.shards().chunks(); ++c) {
    const Range rows = dy.shards().chunk(c);
    input_gradient(backend, dx.rows(rows.begin, rows.end), dy.rows(rows.begin, rows.end), weight, linear.adapter, work,
                   rows.begin);
  }
}

void linear_weight_gradient(Backend& backend, Tensor dy, Tensor x, const Linear& linear, const LowRankWork& work,
                            bool accumulate) {
  if (linear.weight_gradient)
    backend.matmul(linear.weight_gradient, dy, x, Transpose::kYes, Transpose::kNo, accumulate);
  low_rank_weight_gradient(backend, dy, x, linear.adapter, work, accumulate);
}

}  // namespace carillon
