// Low-rank adapters of linear layers (LoRA: Hu et al., 2106.09685): y = W·x + s·B(A·x) with A [r, in], B [out, r]. A
// layer whose product serves several named parts (q, k and v) has one adapter per part that is a target. Their A are
// stored one after another, so that their narrow products with x become one product.
//
// No exchange over tp is added. With u = s·A·x and du = s·Bᵀ·dy:
//   column-parallel  x is whole on every rank, A is replicated, B holds the rows of this rank's outputs. u is the same
//                    on every rank. du is only this rank's term of a sum over tp, and so are dA and the part of dx
//                    that goes through A. The layer's scatter sums dx anyway.
//   row-parallel     x holds this rank's columns, so A holds these too, and B is replicated. u is a partial sum; B
//                    turns it into a partial sum of y, which the layer's scatter adds up. dA is complete; dB is this
//                    rank's term of a sum (because u is).
// The replicated factor (A in the first case, B in the second) therefore has a gradient that is partial over tp
// (ParameterShard::tp_partial).
//
// u is recomputed in the backward pass: that costs a fourteenth of the adapter's work; keeping u would take
// memory for every layer.
#pragma once

#include <vector>

#include "parallel/shard.h"
#include "runtime/backend.h"

namespace carillon {

struct LowRankTarget {
  Range outputs;         // columns of y that it adds to
  Range ranks;           // its rows of LowRank::a
  Tensor b, b_gradient;  // [outputs, ranks] (T), (A)
  double scale = 1;      // s
  uint64_t stream = 0;   // random stream of its dropout
};

struct LowRank {
  Tensor a, a_gradient;  // [R, in] (T), (A)
  std::vector<LowRankTarget> targets;
  int64_t first_input = 0;  // the column of the layer's whole input that x begins with

  explicit operator bool() const { return !targets.empty(); }
};

// Memory that all adapters of a network, and the frozen layers with them, use in turn; and the parameters of a pass.
struct LowRankWork {
  int64_t rows = 0;          // N of this pass, or of a tile
  Tensor low, low_gradient;  // [≥ N·R] (T): u and du
  Tensor wide;               // [≥ N·in] (T): an input with some elements dropped; absent without dropout
  Tensor base;      // [≥ out·in] (T): a quantised weight, dequantised for its products; absent if there is none
  Tensor row;       // [N] int64: row numbers that key the dropout
  Dropout dropout;  // of every adapter's input, except for stream and column; probability 0: none
};

// y[n, out] += s·B(A·x) for rows [begin, begin + n) of the pass.
void low_rank_forward(Backend& backend, Tensor y, Tensor x, const LowRank& adapter, const LowRankWork& work,
                      int64_t begin = 0);
// dx[n, in] += Aᵀ·du for rows [begin, begin + n), through the dropout. Keeps du for low_rank_weight_gradient.
void low_rank_input_gradient(Backend& backend, Tensor dx, Tensor dy, const LowRank& adapter, const LowRankWork& work,
                             int64_t begin = 0);
// dA, dB (+= with `accumulate`) from all rows of the pass. Its input gradients must have been computed just before.
void low_rank_weight_gradient(Backend& backend, Tensor dy, Tensor x, const LowRank& adapter, const LowRankWork& work,
                              bool accumulate);

}  // namespace carillon
