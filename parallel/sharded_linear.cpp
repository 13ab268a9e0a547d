#include "parallel/sharded_linear.h"

namespace carillon {

void gather_rows(Backend& backend, Communicator& tp, Tensor rows, Tensor shard) {
  CHECK(rows.size(0) == shard.size(0) * tp.size(), "every tp rank holds as many rows", rows.size(0), shard.size(0),
        tp.size());
  if (tp.size() > 1)
    tp.all_gather(rows, shard);
  else if (rows.raw() != shard.raw())
    backend.copy(rows, shard);
}

void scatter_rows(Backend& backend, Communicator& tp, Tensor shard, Tensor partial) {
  CHECK(partial.size(0) == shard.size(0) * tp.size(), "every tp rank holds as many rows", partial.size(0),
        shard.size(0), tp.size());
  if (tp.size() > 1)
    tp.reduce_scatter(shard, partial);
  else if (partial.raw() != shard.raw())
    backend.copy(shard, partial);
}

void column_parallel_forward(Backend& backend, Tensor y, Tensor x, Tensor weight, Tensor bias) {
  backend.matmul(y, x, weight, Transpose::kNo, Transpose::kYes);
  if (bias) backend.add_bias(y, bias);
}

void column_parallel_backward(Backend& backend, Tensor dx_partial, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                              Tensor weight, bool accumulate) {
  backend.matmul(dx_partial, dy, weight, Transpose::kNo, Transpose::kNo);
  backend.matmul(dweight, dy, x, Transpose::kYes, Transpose::kNo, accumulate);
  if (dbias) backend.bias_backward(dbias, dy);
}

void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, Tensor weight) {
  backend.matmul(partial, x, weight, Transpose::kNo, Transpose::kYes);
}

void row_parallel_input_gradient(Backend& backend, Tensor dx, Tensor dy, Tensor weight) {
  backend.matmul(dx, dy, weight, Transpose::kNo, Transpose::kNo);
}

void row_parallel_weight_gradient(Backend& backend, Tensor dweight, Tensor dy, Tensor x, bool accumulate) {
  backend.matmul(dweight, dy, x, Transpose::kYes, Transpose::kNo, accumulate);
}

void row_parallel_backward(Backend& backend, Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight,
                           bool accumulate) {
  row_parallel_input_gradient(backend, dx, dy, weight);
  row_parallel_weight_gradient(backend, dweight, dy, x, accumulate);
}

}  // namespace carillon
