// Linear layers split over tp, with sequence parallelism between them (Korthikanti et al., 2205.05198). The residual is
// held as row shards [N/tp, C] (row_shards.h); a column-parallel layer gathers the rows first, a row-parallel layer
// scatters them afterwards. Weights are [out, in]. The gradient of this rank's part of a weight is complete. A tp group
// of one has no overhead.
//
// A layer may be frozen: its weight has no gradient, and the product for it is skipped. It may have an adapter
// (low_rank.h), whose products run together with the layer's; LowRankWork says on which rows. A frozen weight may be
// quantised: it is then dequantised into LowRankWork::base, which the layers share, once per call (for an MLP in tiles,
// once per tile).
//
// With a RowGather or RowScatter a product goes chunk by chunk: it uses a chunk's rows once they have arrived, and
// sends rows as soon as they are computed. With tensors it uses the rows it is given, all of them or a tile.
#pragma once

#include <vector>

#include "parallel/tensor/low_rank.h"
#include "parallel/tensor/row_shards.h"
#include "runtime/backend.h"

namespace carillon {

struct Linear {
  Tensor weight;                           // [out, in]; absent if quantised
  std::vector<QuantizedMatrix> quantized;  // row blocks of the weight, one part after another
  Tensor bias;                             // [out], may be absent; that of a row-parallel layer belongs to its caller
  Tensor weight_gradient, bias_gradient;   // (A); absent if frozen
  LowRank adapter;                         // may be empty
};

// y[N, outl] = x[N, in] · weight[outl, in]ᵀ + bias[outl] (bias may be absent). x is whole on every tp rank.
void column_parallel_forward(Backend& backend, Tensor y, Tensor x, const Linear& linear, const LowRankWork& work);
void column_parallel_forward(Backend& backend, Tensor y, RowGather& x, const Linear& linear, const LowRankWork& work);
// Computes both gradients. This rank's term of dx travels while the gradients of weight (A; += with
// `accumulate`) and bias (A, +=) are computed.
void column_parallel_backward(Backend& backend, RowScatter& dx, Tensor dy, RowGather& x, const Linear& linear,
                              const LowRankWork& work, bool accumulate);

// partial[N, out] = x[N, inl] · weight[out, inl]ᵀ, to be summed over tp. The caller adds a bias to the scattered rows;
// the bias's gradient is then partial over tp.
void row_parallel_forward(Backend& backend, Tensor partial, Tensor x, const Linear& linear, const LowRankWork& work);
void row_parallel_forward(Backend& backend, RowScatter& y, Tensor x, const Linear& linear,
                          const LowRankWork& work);  // finishes y

// For either kind of layer: dx[N, in] = dy[N, out] · weight (column-parallel: this rank's term, to be summed over tp),
// and dweight[out, in] (A) = dyᵀ · x, += with `accumulate`. Both include the adapter; for it, linear_weight_gradient
// requires that linear_input_gradient ran just before.
void linear_input_gradient(Backend& backend, Tensor dx, Tensor dy, const Linear& linear, const LowRankWork& work);
void linear_input_gradient(Backend& backend, Tensor dx, RowGather& dy, const Linear& linear, const LowRankWork& work);
void linear_weight_gradient(Backend& backend, Tensor dy, Tensor x, const Linear& linear, const LowRankWork& work,
                            bool accumulate);

}  // namespace carillon
