// Linear layers split over tp, with sequence parallelism between them (Korthikanti et al., 2205.05198): the residual
// lives as row shards [N/tp, C]; a column-parallel layer gathers the rows first, a row-parallel layer scatters them
// afterwards. Weights are [out, in]. A tp group of one costs nothing.
#pragma once

#include "parallel/communicator.h"
#include "runtime/backend.h"

namespace carillon {

// rows[N, C] = the row shards of all tp ranks. N = tp · shard rows.
void gather_rows(Backend& backend, Communicator& tp, Tensor rows, Tensor shard);
// shard[N/tp, C] = this rank's rows of the sum over tp of partial[N, C].
void scatter_rows(Backend& backend, Communicator& tp, Tensor shard, Tensor partial);

// y[N, outl] = x[N, in] · weight[outl, in]ᵀ + bias[outl] (bias may be absent). x is whole on every tp rank.
void column_parallel_forward(Backend& backend, Tensor y, Tensor x, Tensor weight, Tensor bias);
// dx_partial[N, in] (=) is this rank's part, to be summed over tp by scatter_rows; dweight (A; += with `accumulate`,
// else =) and dbias (A, +=) are complete for this rank's rows of the weight.
void column_parallel_backward(Backend& backend, Tensor dx_partial, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                              Tensor weight, bool accumulate);

// partial[N, out] = x[N, inl] · weight[out, inl]ᵀ, to be summed over tp by scatter_rows. A bias is added by the caller
// to the scattered rows; its gradient is then partial over tp.
void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, Tensor weight);
// dy[N, out] is whole (gathered); dx[N, inl] =, dweight[out, inl] (A) += with `accumulate`, else =.
void row_parallel_backward(Backend& backend, Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight,
                           bool accumulate);
// Its two halves, for an x that is computed again from what dx leads to.
void row_parallel_input_gradient(Backend& backend, Tensor dx, Tensor dy, Tensor weight);
void row_parallel_weight_gradient(Backend& backend, Tensor dweight, Tensor dy, Tensor x, bool accumulate);

}  // namespace carillon
