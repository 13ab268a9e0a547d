// CLEX (Chen et al., 2310.16450): frequencies follow a learned differential equation over the factor by which a
// sequence is stretched. With θ the frequencies of base b, d = 2·R, t ≥ 1 the stretch and α(t) = 2t − 1:
//
//   z(1) = log θ,   dz/dt = g(t) + W_downᵀ · act( W_upᵀ · (z + log θ_ntk(t)) ),   frequencies at t = exp z(t)
//   log θ_ntk(t)_i = −(2i/d)·ln b − (2i/(d−2))·ln α(t),   g = d log θ_ntk / dt
//
// With W_down = 0, the start of training, they are therefore the frequencies of ntk with factor α(t). Integrated in
// float64 by the fourth-order Runge-Kutta method in its 3/8 form (Kutta, 1901), which is torchdiffeq's "rk4" and so
// that of the published code. The gradient is that of these very steps in reverse, not that of the continuous equation.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/rope_config.h"

namespace carillon {

// The learned weights, laid out as in the published code: vectors multiply from the left.
struct ClexWeights {
  int64_t pairs = 0, hidden = 0;  // R, and param_factor · 2R
  std::vector<double> up;         // [R, hidden]
  std::vector<double> down;       // [hidden, R]
};

// The parameters' names, after the modules of the published code.
inline constexpr const char* kOdeUp = "model.clex_layer.proj_func.ode_up_proj";
inline constexpr const char* kOdeDown = "model.clex_layer.proj_func.ode_down_proj";

int64_t clex_hidden(const RopeConfig& config, int64_t pairs);

// The stretch for a sequence of `length` tokens: length divided by the trained length, rounded up; at most the factor.
double clex_stretch(const RopeConfig& config, int64_t length);

// The frequencies [pairs] at a stretch, with config.dynamics. Fails with error 64 for a single pair.
std::vector<double> clex_frequencies(const RopeConfig& config, int64_t pairs, double stretch);

// The gradient with respect to the weights, given `gradient` [pairs] with respect to the logarithms of those
// frequencies.
ClexWeights clex_gradient(const RopeConfig& config, int64_t pairs, double stretch, std::span<const double> gradient);

// The same rotation for programs that only support longrope: up to the trained length the frequencies learned for it
// (the plain ones); beyond it those of the largest stretch, whatever the actual length. With rope.length both are those
// of that length.
RopeConfig clex_as_longrope(const RopeConfig& config, int64_t pairs);

}  // namespace carillon
