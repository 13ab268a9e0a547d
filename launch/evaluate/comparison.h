// Two settings that scored the same tokens, compared in pairs. With D_i the difference of the summed losses of unit i
// (setting − baseline) and W_i its summed weight:
//
//   difference = Σ D_i / Σ W_i                                     nats a token
//   standard error = √( n/(n−1) · Σ (D_i − difference · W_i)² ) / Σ W_i
//
// which is that of a ratio over units (Cochran, Sampling Techniques, 1977, section 6.4); for units of one size it is
// the standard deviation of their differences, n−1 in the divisor, over √n. What both settings find hard in a document
// cancels, so that differences far below the losses' own spread are seen.
//
// Units are documents. Of a single document they are blocks of neighbouring pieces: 1024 tokens (fewer where that would
// leave less than eight blocks), doubled while the differences of neighbouring blocks are correlated (|r| > 2/√n) and
// eight blocks remain.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/evaluate/unit_losses.h"

namespace carillon {

struct Difference {
  double mean = 0;
  std::optional<double> standard_error;  // of one unit there is none
  int64_t units = 0, tokens = 0;
};

struct BinDifference {
  int64_t from, to;
  Difference difference;
};

struct Comparison {
  std::string refusal;  // not empty: why there is none
  Difference all;
  std::string unit;                                       // "documents", "blocks of 1024 tokens"
  std::vector<BinDifference> by_position, past_training;  // the latter only where both models have one trained length
};

using LossPair = std::pair<const UnitLosses*, const UnitLosses*>;  // setting, baseline

// The mean over pairs (seeds; usually one) of their differences. Documents are matched by what was scored in them, not
// by their place. Refused: a document that only one side has, tokenizers that differ, losses that are not finite.
Comparison compare_losses(const std::vector<LossPair>& pairs);

// Mean and standard error over independent values (seeds).
Difference over_values(const std::vector<double>& values);

}  // namespace carillon
