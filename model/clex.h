// CLEX (Chen et al., 2310.16450): frequencies that follow a learned differential equation over how far a sequence is
// stretched. With θ the frequencies of the base b, d = 2·R, t ≥ 1 the stretch and α(t) = 2t − 1:
//
//   z(1) = log θ,   dz/dt = g(t) + W_downᵀ · act( W_upᵀ · (z + log θ_ntk(t)) ),   frequencies at t = exp z(t)
//   log θ_ntk(t)_i = −(2i/d)·ln b − (2i/(d−2))·ln α(t),   g = d log θ_ntk / dt
//
// so that with W_down = 0, as training begins, they are ntk's with factor α(t). Integrated by the fourth-order
// Runge-Kutta method in its 3/8 form (Kutta, 1901), which torchdiffeq's "rk4" and so the public code means, in float64;
// the gradient is that of these very steps, in reverse, not of the continuous equation.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/rope_config.h"

namespace carillon {

// What is learned, as the public code keeps it: rows multiply from the left.
struct ClexWeights {
  int64_t pairs = 0, hidden = 0;  // R, and param_factor · 2R
  std::vector<double> up;         // [R, hidden]
  std::vector<double> down;       // [hidden, R]
};

// The parameters' names, after the public code's modules.
inline constexpr const char* kOdeUp = "model.clex_layer.proj_func.ode_up_proj";
inline constexpr const char* kOdeDown = "model.clex_layer.proj_func.ode_down_proj";

int64_t clex_hidden(const RopeConfig& config, int64_t pairs);

// The stretch for a sequence of `length` tokens: how many times the trained length holds it, rounded up; at most the
// factor.
double clex_stretch(const RopeConfig& config, int64_t length);

// The frequencies [pairs] at a stretch, with config.dynamics. Error 64 for a single pair.
std::vector<double> clex_frequencies(const RopeConfig& config, int64_t pairs, double stretch);

// The gradient by the weights, from `gradient` [pairs] by the logarithms of those frequencies.
ClexWeights clex_gradient(const RopeConfig& config, int64_t pairs, double stretch, std::span<const double> gradient);

// The same for programs that know longrope only: at most the trained length as learned for it (the plain frequencies),
// beyond it the frequencies of the largest stretch, whatever the length between. With rope.length both are those of
// that length.
RopeConfig clex_as_longrope(const RopeConfig& config, int64_t pairs);

}  // namespace carillon
