// Theoretical limits of a rotary base: the scaling laws of RoPE-based extrapolation (Liu et al., 2310.05209) and the
// lower bound on the base (Men et al., 2405.14591). Both are about plain RoPE with base b on a head of d dimensions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace carillon {

// d_extra: number of dimensions (even, at most head_dim) whose pairs make a full turn within `trained` tokens at
// `base`.
int64_t critical_dimensions(int64_t head_dim, double base, double trained);

// β_0: for a model trained at `trained` tokens with `base` and tuned at `tuned` tokens, the largest new base without a
// hard limit.
double critical_base(double base, double trained, double tuned);

// T_extra: positions beyond it fail when a model trained at `trained` tokens with `base` is tuned at `tuned` tokens
// with `new_base`. Above the critical base it is the wavelength of the first unseen pair; at or below it, it is
// `tuned`, and failure is not abrupt.
double extrapolation_bound(int64_t head_dim, double base, double trained, double new_base, double tuned);

// The new base at which the first unseen pair has the wavelength `length`.
double base_for_length(int64_t head_dim, double base, double trained, double length);

// β_1, β_2, β_3: below them every pair makes a quarter, half or full turn within `tuned` tokens; failure is then
// gradual.
struct SmallBases {
  double quarter, half, full;
};
SmallBases small_bases(double tuned);

// B_b(m) = Σ over pairs of cos(m · b^(-2i/d)): how much more a query attends to a similar key at distance m than to a
// random one.
double similarity_score(int64_t head_dim, double base, int64_t distance);
// For scaled frequencies: the first distance below `length` at which the sum is negative. Examines every distance up to
// `dense`, then increasingly sparse ones, with gaps of 2/dense of the distance.
std::optional<int64_t> first_negative_similarity(std::span<const double> inverse_frequency, int64_t length,
                                                 int64_t dense);
// The first distance below `length` at which B_b is negative, or nothing. Beyond it a model may have low perplexity and
// still fail to retrieve. O(length · head_dim).
std::optional<int64_t> first_negative_similarity(int64_t head_dim, double base, int64_t length);

}  // namespace carillon
