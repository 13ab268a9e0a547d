// Linear layers split over tp, with sequence parallelism between them (Korthikanti et al., 2205.05198): the residual
// lives as row shards [N/tp, C] (row_shards.h); a column-parallel layer gathers the rows first, a row-parallel layer
// scatters them afterwards. Weights are [out, in]; a weight's gradient is complete for this rank's part of it. A tp
// group of one costs nothing.
//
// A layer may be frozen: its weight has no gradient, and the product that would form it is not run. It may have an
// adapter (low_rank.h), whose products go along with its own; LowRankWork says of which rows. A frozen weight may be
// quantised: before its products it becomes numbers in LowRankWork::base, which the layers share, once a call (with an
// MLP in tiles once a tile).
//
// With a RowGather or RowScatter a product goes chunk by chunk: on a chunk's rows once they have arrived, sent as soon
// as they are computed. On tensors it takes the rows it is given, all of them or a tile.
#pragma once

#include <vector>

#include "parallel/tensor/low_rank.h"
#include "parallel/tensor/row_shards.h"
#include "runtime/backend.h"

namespace carillon {

struct Linear {
  Tensor weight;                           // [out, in]; absent where quantised
  std::vector<QuantizedMatrix> quantized;  // its rows, part after part
  Tensor bias;                             // [out], may be absent; a row-parallel layer's is its caller's
  Tensor weight_gradient, bias_gradient;   // (A); absent where frozen
  LowRank adapter;                         // may be none
};

// y[N, outl] = x[N, in] · weight[outl, in]ᵀ + bias[outl] (bias may be absent). x is whole on every tp rank.
void column_parallel_forward(Backend& backend, Tensor y, Tensor x, const Linear& linear, const LowRankWork& work);
void column_parallel_forward(Backend& backend, Tensor y, RowGather& x, const Linear& linear, const LowRankWork& work);
// Both gradients; dx's part of this rank travels while those by the weight and bias (A, +=) are computed.
void column_parallel_backward(Backend& backend, RowScatter& dx, Tensor dy, RowGather& x, const Linear& linear,
                              const LowRankWork& work, bool accumulate);

// partial[N, out] = x[N, inl] · weight[out, inl]ᵀ, to be summed over tp. A bias is added by the caller to the scattered
// rows; its gradient is then partial over tp.
void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, const Linear& linear, const LowRankWork& work);
void row_parallel_forward(Backend& backend, RowScatter& y, Tensor x, const Linear& linear,
                          const LowRankWork& work);  // y is finished

// Of either layer: dx[N, in] = dy[N, out] · weight (column-parallel: this rank's part of it, to be summed over tp), and
// dweight[out, in] (A) = dyᵀ · x, += with `accumulate`; of an adapter too, whose part of the second wants the first
// done just before.
void linear_input_gradient(Backend& backend, Tensor dx, Tensor dy, const Linear& linear, const LowRankWork& work);
void linear_input_gradient(Backend& backend, Tensor dx, RowGather& dy, const Linear& linear, const LowRankWork& work);
void linear_weight_gradient(Backend& backend, Tensor dy, Tensor x, const Linear& linear, const LowRankWork& work,
                            bool accumulate);

}  // namespace carillon
