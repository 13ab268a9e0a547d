// Paired comparison of two settings that scored the same tokens. With D_i the difference of the summed losses of unit i
// (setting − baseline) and W_i its summed weight:
//
//   difference = Σ D_i / Σ W_i                                     nats per token
//   standard error = √( n/(n−1) · Σ (D_i − difference · W_i)² ) / Σ W_i
//
// This is the standard error of a ratio over units (Cochran, Sampling Techniques, 1977, section 6.4). For units of
// equal size it is the standard deviation of their differences, with n−1 in the divisor, over √n. What makes a document
// hard for both settings cancels, so differences far below the spread of the losses themselves become visible.
//
// Units are documents. A single document is divided into blocks of neighbouring pieces instead: 1024 tokens (fewer if
// that would leave less than eight blocks), doubled while the differences of neighbouring blocks are correlated (|r| >
// 2/√n) and eight blocks remain.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/evaluate/unit_losses.h"

namespace carillon {

struct Difference {
  double mean = 0;
  std::optional<double> standard_error;  // not set for a single unit
  int64_t units = 0, tokens = 0;
};

struct BinDifference {
  int64_t from, to;
  Difference difference;
};

struct Comparison {
  std::string refusal;  // not empty: why there is no comparison
  Difference all;
  std::string unit;                                       // "documents", "blocks of 1024 tokens"
  std::vector<BinDifference> by_position, past_training;  // the latter only if both models have one trained length
};

using LossPair = std::pair<const UnitLosses*, const UnitLosses*>;  // setting, baseline

// Returns the mean of the pairs' differences (pairs are seeds; usually there is one). Documents are matched by what was
// scored in them, not by position. Refused: documents that only one side has, different tokenizers, losses that are not
// finite.
Comparison compare_losses(const std::vector<LossPair>& pairs);

// Mean and standard error over independent values (seeds).
Difference over_values(const std::vector<double>& values);

}  // namespace carillon
