// What theory says a rotary base can carry: the scaling laws of RoPE-based extrapolation (Liu et al., 2310.05209) and
// the lower bound on the base (Men et al., 2405.14591). Both are about plain RoPE of base b on a head of d dimensions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace carillon {

// d_extra: dimensions (an even number, at most head_dim) whose pairs turn fully within `trained` tokens at `base`.
int64_t critical_dimensions(int64_t head_dim, double base, double trained);

// β_0: with the base it was trained at 10000-like `base`, the largest new base without a hard limit when tuned at
// `tuned`.
double critical_base(double base, double trained, double tuned);

// T_extra: positions beyond it fail when a model trained at `trained` tokens with `base` is tuned at `tuned` tokens
// with `new_base`. Above the critical base the first unseen pair's wavelength; at or below it `tuned`, without a hard
// failure.
double extrapolation_bound(int64_t head_dim, double base, double trained, double new_base, double tuned);

// The new base whose first unseen pair has a wavelength of `length`.
double base_for_length(int64_t head_dim, double base, double trained, double length);

// β_1, β_2, β_3: below them every pair makes a quarter, half, a full turn within `tuned` tokens; failure is then
// gradual.
struct SmallBases {
  double quarter, half, full;
};
SmallBases small_bases(double tuned);

// B_b(m) = Σ over pairs of cos(m · b^(-2i/d)): how much more a query attends to a like key m away than to a random one.
double similarity_score(int64_t head_dim, double base, int64_t distance);
// The same of frequencies that a scaling made: the first distance below `length` at which the sum is negative. Every
// distance up to `dense` is looked at, then ever sparser ones, one in dense/2 of what lies before.
std::optional<int64_t> first_negative_similarity(std::span<const double> inverse_frequency, int64_t length,
                                                 int64_t dense);
// The first distance below `length` at which it is negative; nothing when there is none. Beyond it a model may have low
// perplexity and still not find anything. O(length · head_dim).
std::optional<int64_t> first_negative_similarity(int64_t head_dim, double base, int64_t length);

}  // namespace carillon
