// What a rotary scaling does to a model's pairs: wavelengths, which of them the model has seen whole, and how far the
// values beyond its training length lie from those inside (Wang et al., 2024, "Resonance RoPE", section 3).
#pragma once

#include <vector>

#include "model/rope.h"

namespace carillon {

struct RopePairReport {
  int64_t pair = 0;
  double inverse_frequency = 0;    // θ as used, after rounding
  double wavelength = 0;           // 2π/θ after scaling, before rounding; infinite when it does not turn
  int64_t rounded_wavelength = 0;  // nearest integer; 0 when it does not turn
  // max over n in [L, length) of min over m in [0, L) of the distance between the pair's (cos, sin) at m and n, without
  // the attention factor. Exactly 0 for a pair whose integer period is at most L.
  double feature_gap = 0;
  double unrounded_feature_gap = 0;  // the same without resonance
};

struct RopeReport {
  std::vector<RopePairReport> pairs;
  double attention_factor = 1;
  int64_t original_length = 0;     // L
  int64_t length = 0;              // L′
  int64_t critical_dimension = 0;  // pairs with wavelength < L, before rounding
  // log10 of the least common multiple of the integer periods of those pairs: after so many tokens they all stand as at
  // the beginning. 0 without resonance.
  double log10_common_period = 0;
};

RopeReport report_rope(const RopeConfig& config, int64_t head_dim, int64_t length);

}  // namespace carillon
