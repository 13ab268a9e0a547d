// Linear layers split over tp, with sequence parallelism between them (Korthikanti et al., 2205.05198): the residual
// lives as row shards [N/tp, C] (row_shards.h); a column-parallel layer gathers the rows first, a row-parallel layer
// scatters them afterwards. Weights are [out, in]; a weight's gradient is complete for this rank's part of it. A tp
// group of one costs nothing.
//
// With a RowGather or RowScatter a product goes chunk by chunk: on a chunk's rows once they have arrived, sent as soon
// as they are computed. On tensors it takes the rows it is given, all of them or a tile.
#pragma once

#include "parallel/tensor/row_shards.h"
#include "runtime/backend.h"

namespace carillon {

// y[N, outl] = x[N, in] · weight[outl, in]ᵀ + bias[outl] (bias may be absent). x is whole on every tp rank.
void column_parallel_forward(Backend& backend, Tensor y, Tensor x, Tensor weight, Tensor bias);
void column_parallel_forward(Backend& backend, Tensor y, RowGather& x, Tensor weight, Tensor bias);
// Both gradients; dx's part of this rank travels while those by the weight and bias (A, +=) are computed.
void column_parallel_backward(Backend& backend, RowScatter& dx, Tensor dweight, Tensor dbias, Tensor dy, RowGather& x,
                              Tensor weight, bool accumulate);

// partial[N, out] = x[N, inl] · weight[out, inl]ᵀ, to be summed over tp. A bias is added by the caller to the scattered
// rows; its gradient is then partial over tp.
void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, Tensor weight);
void row_parallel_forward(Backend& backend, RowScatter& y, Tensor x, Tensor weight);  // y is finished

// Of either layer: dx[N, in] = dy[N, out] · weight (column-parallel: this rank's part of it, to be summed over tp), and
// dweight[out, in] (A) = dyᵀ · x, += with `accumulate`.
void linear_input_gradient(Backend& backend, Tensor dx, Tensor dy, Tensor weight);
void linear_input_gradient(Backend& backend, Tensor dx, RowGather& dy, Tensor weight);
void linear_weight_gradient(Backend& backend, Tensor dweight, Tensor dy, Tensor x, bool accumulate);

}  // namespace carillon
