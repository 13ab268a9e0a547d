// What a rotary scaling does to a model's pairs: wavelengths, which of them the model has seen whole, how far the
// values beyond its training length lie from those inside (Wang et al., 2024, "Resonance RoPE", section 3), and what
// rounding the wavelengths can change in attention at all.
//
// The last: at distance n a pair adds |q||k|·cos(nθ + φ) to a logit, φ the angle between query and key. Rounding turns
// it by δ = n(θ̃ − θ) further, which changes that by |q||k|·(cos(nθ + φ + δ) − cos(nθ + φ)). Over φ uniform the pair's
// variance is |q|²|k|²/2 and the change's |q|²|k|²·(1 − cos δ): 2(1 − cos δ) of it. A pair's share of all pairs'
// variance is its power |q|²|k|² over theirs, which the task `attention` of `carillon eval` measures; without that all
// pairs count the same. 0 is no change, 2 as much as a pair turned at random, 4 one turned round.
#pragma once

#include <optional>
#include <utility>
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
  double phase_shift = 0;            // δ at the report's distance, in (-π, π]; 0 without resonance
  double movable_share = 0;          // of the variance of all pairs' logits there: power · 2(1 − cos δ)
  // Type distributional: how much leaving the pair, and interpolating it, disturbs its angles (rope.h).
  std::optional<double> disturbance_as_it_is, disturbance_interpolated;
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
  int64_t distance = 0;  // of phase_shift and movable_share
  // What rounding can move of the logits' variance at distances 1, 2, 4 … and the longest, over all pairs.
  std::vector<std::pair<int64_t, double>> movable_by_distance;
};

// distance: 0 is the longest, length − 1. pair_power: of each pair, in any unit; empty: all alike. Error 64 when it has
// another number of entries.
RopeReport report_rope(const RopeConfig& config, int64_t head_dim, int64_t length, int64_t distance = 0,
                       const std::vector<double>& pair_power = {});

}  // namespace carillon
