#include "parallel/tensor/sharded_linear.h"

namespace carillon {

void column_parallel_forward(Backend& backend, Tensor y, Tensor x, Tensor weight, Tensor bias) {
  backend.matmul(y, x, weight, Transpose::kNo, Transpose::kYes);
  if (bias) backend.add_bias(y, bias);
}

void column_parallel_forward(Backend& backend, Tensor y, RowGather& x, Tensor weight, Tensor bias) {
  for (int64_t c = 0; c < x.shards().chunks(); ++c) {
    const Range rows = x.shards().chunk(c);
    column_parallel_forward(backend, y.rows(rows.begin, rows.end), x.rows(rows.begin, rows.end), weight, {});
  }
  if (bias) backend.add_bias(y, bias);
}

void column_parallel_backward(Backend& backend, RowScatter& dx, Tensor dweight, Tensor dbias, Tensor dy, RowGather& x,
                              Tensor weight, bool accumulate) {
  for (int64_t c = 0; c < dx.shards().chunks(); ++c) {
    const Range rows = dx.shards().chunk(c);
    linear_input_gradient(backend, dx.rows(rows.begin, rows.end), dy.rows(rows.begin, rows.end), weight);
    dx.done(rows.end);
  }
  linear_weight_gradient(backend, dweight, dy, x.all(), accumulate);
  if (dbias) backend.bias_backward(dbias, dy);
  dx.finish();
}

void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, Tensor weight) {
  backend.matmul(partial, x, weight, Transpose::kNo, Transpose::kYes);
}

void row_parallel_forward(Backend& backend, RowScatter& y, Tensor x, Tensor weight) {
  for (int64_t c = 0; c < y.shards().chunks(); ++c) {
    const Range rows = y.shards().chunk(c);
    row_parallel_forward(backend, y.rows(rows.begin, rows.end), x.rows(rows.begin, rows.end), weight);
    y.done(rows.end);
  }
  y.finish();
}

void linear_input_gradient(Backend& backend, Tensor dx, Tensor dy, Tensor weight) {
  backend.matmul(dx, dy, weight, Transpose::kNo, Transpose::kNo);
}

void linear_input_gradient(Backend& backend, Tensor dx, RowGather& dy, Tensor weight) {
  for (int64_t c = 0; c < dy.shards().chunks(); ++c) {
    const Range rows = dy.shards().chunk(c);
    linear_input_gradient(backend, dx.rows(rows.begin, rows.end), dy.rows(rows.begin, rows.end), weight);
  }
}

void linear_weight_gradient(Backend& backend, Tensor dweight, Tensor dy, Tensor x, bool accumulate) {
  backend.matmul(dweight, dy, x, Transpose::kYes, Transpose::kNo, accumulate);
}

}  // namespace carillon
