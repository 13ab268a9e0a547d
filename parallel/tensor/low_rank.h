// Low-rank adapters beside linear layers (LoRA: Hu et al., 2106.09685): y = W·x + s·B(A·x) with A [r, in], B [out, r].
// A layer whose product serves several named parts (q, k and v) has an adapter for each part that is a target; their A
// lie one after another, so that the narrow products with x are one.
//
// Over tp no exchange is added. With u = s·A·x and du = s·Bᵀ·dy:
//   column-parallel  x is whole on every rank, A replicated, B holds the rows of this rank's outputs. u is the same
//                    everywhere; du, and with it dA and the part of dx that comes through A, is this rank's part of a
//                    sum. dx is summed by the layer's scatter anyway.
//   row-parallel     x is this rank's columns, so A holds those, B is replicated. u is a part, B takes it to a part of
//                    y, which the layer's scatter sums; dA is whole, dB is this rank's part (of u).
// So what is replicated (A there, B here) has a gradient that is partial over tp (ParameterShard::tp_partial).
//
// u is computed again in the backward pass: it costs a fourteenth of the adapter and would have to be kept by layer.
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
  uint64_t stream = 0;   // of its dropout
};

struct LowRank {
  Tensor a, a_gradient;  // [R, in] (T), (A)
  std::vector<LowRankTarget> targets;
  int64_t first_input = 0;  // of the layer's whole input, the column that x begins with

  explicit operator bool() const { return !targets.empty(); }
};

// Memory that all adapters of a network, and the frozen layers beside them, use in turn, and what a pass knows.
struct LowRankWork {
  int64_t rows = 0;          // N of this pass, or of a tile
  Tensor low, low_gradient;  // [≥ N·R] (T): u and du
  Tensor wide;               // [≥ N·in] (T): an input with some elements dropped; absent without dropout
  Tensor base;               // [≥ out·in] (T): a quantised weight as numbers, while its products run; absent without
  Tensor row;                // [N] int64: what the dropout counts rows by
  Dropout dropout;           // of every adapter's input, but for stream and column; probability 0: none
};

// y[n, out] += s·B(A·x) for rows [begin, begin + n) of the pass.
void low_rank_forward(Backend& backend, Tensor y, Tensor x, const LowRank& adapter, const LowRankWork& work,
                      int64_t begin = 0);
// dx[n, in] += Aᵀ·du for rows [begin, begin + n), through the dropout; leaves du there for the next call.
void low_rank_input_gradient(Backend& backend, Tensor dx, Tensor dy, const LowRank& adapter, const LowRankWork& work,
                             int64_t begin = 0);
// dA, dB (+= with `accumulate`) from all rows of the pass, whose input gradients were the last to be formed.
void low_rank_weight_gradient(Backend& backend, Tensor dy, Tensor x, const LowRank& adapter, const LowRankWork& work,
                              bool accumulate);

}  // namespace carillon
