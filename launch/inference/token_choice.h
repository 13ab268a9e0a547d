// Chooses the next token from logits: greedy, or sampled with temperature, top-k and top-p (nucleus: Holtzman et al.,
// 1904.09751).
#pragma once

#include <cstdint>
#include <span>

namespace carillon {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy, the smallest id among equals
  int64_t top_k = 0;       // sample among this many of the likeliest tokens; 0: all
  double top_p = 1;        // … among the fewest likeliest tokens whose probabilities sum to at least this
  uint64_t seed = 42;
};

// Returns the token chosen from `logits`, or kNoToken if they hold NaN or their largest is infinite. Random numbers are
// a function of (seed, prompt, step): the same on every layout and in every batch.
constexpr int64_t kNoToken = -1;
int64_t choose_token(std::span<const double> logits, const SamplingOptions& options, uint64_t prompt, uint64_t step);

}  // namespace carillon
