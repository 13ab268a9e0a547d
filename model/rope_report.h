// What a rotary scaling does to a model's pairs: their wavelengths, which of them the model has seen whole, how far
// values beyond the training length are from those inside it (Wang et al., 2024, "Resonance RoPE", section 3), and how
// much rounding the wavelengths can change attention at all.
//
// On the last: at distance n a pair adds |q||k|·cos(nθ + φ) to a logit, with φ the angle between query and key.
// Rounding turns it further by δ = n(θ̃ − θ), which changes that term by |q||k|·(cos(nθ + φ + δ) − cos(nθ + φ)). For φ
// uniform, the pair's variance is |q|²|k|²/2 and that of the change is |q|²|k|²·(1 − cos δ), which is 2(1 − cos δ)
// times the former. A pair's share of the variance of all pairs is its power |q|²|k|² divided by their sum. The task
// `attention` of `carillon eval` measures these powers; without them all pairs count the same. 0 means no change, 2 as
// much as a pair turned at random, 4 a pair turned by half a turn.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "model/rope.h"

namespace carillon {

struct RopePairReport {
  int64_t pair = 0;
  double inverse_frequency = 0;    // θ as used, after rounding
  double wavelength = 0;           // 2π/θ after scaling, before rounding; infinite if it does not turn
  int64_t rounded_wavelength = 0;  // nearest integer; 0 if it does not turn
  // max over n in [L, length) of min over m in [0, L) of the distance between the pair's (cos, sin) at m and n, without
  // the attention factor. Exactly 0 for a pair whose integer period is at most L.
  double feature_gap = 0;
  double unrounded_feature_gap = 0;  // the same without resonance
  double phase_shift = 0;            // δ at the report's distance, in (-π, π]; 0 without resonance
  double movable_share = 0;  // share of the variance of all pairs' logits at that distance: power · 2(1 − cos δ)
  // Only type distributional: how much keeping the pair, and interpolating it, disturbs its angles (rope.h).
  std::optional<double> disturbance_as_it_is, disturbance_interpolated;
};

struct RopeReport {
  std::vector<RopePairReport> pairs;
  double attention_factor = 1;
  int64_t original_length = 0;     // L
  int64_t length = 0;              // L′
  int64_t critical_dimension = 0;  // number of pairs with wavelength < L, before rounding
  // log10 of the least common multiple of the integer periods of those pairs: after that many tokens they are all back
  // at their start. 0 without resonance.
  double log10_common_period = 0;
  int64_t distance = 0;  // at which phase_shift and movable_share are taken
  // Share of the logits' variance, over all pairs, that rounding can move at distances 1, 2, 4 … and the longest one.
  std::vector<std::pair<int64_t, double>> movable_by_distance;
};

// distance: 0 means the longest one, length − 1. pair_power: one number per pair, in any unit; empty: all equal. Fails
// with error 64 if it has another number of entries.
RopeReport report_rope(const RopeConfig& config, int64_t head_dim, int64_t length, int64_t distance = 0,
                       const std::vector<double>& pair_power = {});

}  // namespace carillon
