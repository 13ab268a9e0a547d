#include "model/clex.h"

#include <algorithm>
#include <cmath>

#include "runtime/check.h"
#include "runtime/error.h"

namespace carillon {
namespace {

using Vector = std::vector<double>;

// to += factor · x
void add_to(Vector& to, double factor, const Vector& x) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += factor * x[i];
}

double activated(RopeConfig::Activation activation, double x) {
  return activation == RopeConfig::Activation::kTanh ? std::tanh(x) : x / (1 + std::exp(-x));
}
double slope(RopeConfig::Activation activation, double x) {
  if (activation == RopeConfig::Activation::kTanh) return 1 - std::tanh(x) * std::tanh(x);
  const double sigmoid = 1 / (1 + std::exp(-x));
  return sigmoid * (1 + x * (1 - sigmoid));
}

// The right-hand side at one point, with what its derivative needs.
struct Evaluation {
  Vector in, before, hidden, out;
};

class Dynamics {
 public:
  Dynamics(const RopeConfig& config, int64_t pairs)
      : weights_(*config.dynamics), activation_(config.activation), base_(std::log(config.base)), pairs_(pairs) {
    CHECK(weights_.pairs == pairs && weights_.up.size() == static_cast<size_t>(pairs * weights_.hidden) &&
              weights_.down.size() == weights_.up.size(),
          "what was learned is of another head", weights_.pairs, pairs);
  }

  void evaluate(double t, const Vector& z, Evaluation& at) const {
    const auto hidden = static_cast<size_t>(weights_.hidden), pairs = static_cast<size_t>(pairs_);
    const double alpha = 2 * t - 1, d = 2.0 * static_cast<double>(pairs_);
    at.in = z;
    at.out.resize(pairs);
    for (size_t i = 0; i < pairs; ++i) {
      const double twice = 2.0 * static_cast<double>(i), slower = twice / (d - 2);
      at.in[i] += -twice / d * base_ - slower * std::log(alpha);
      at.out[i] = -2 * slower / alpha;
    }
    at.before.assign(hidden, 0);
    at.hidden.resize(hidden);
    for (size_t i = 0; i < pairs; ++i)
      for (size_t k = 0; k < hidden; ++k) at.before[k] += at.in[i] * weights_.up[i * hidden + k];
    for (size_t k = 0; k < hidden; ++k) at.hidden[k] = activated(activation_, at.before[k]);
    for (size_t k = 0; k < hidden; ++k)
      for (size_t i = 0; i < pairs; ++i) at.out[i] += at.hidden[k] * weights_.down[k * pairs + i];
  }

  // From the gradient with respect to `out`: adds to the gradient of the weights, returns that of z.
  void backward(const Evaluation& at, const Vector& dout, ClexWeights& gradient, Vector& dz) const {
    const auto hidden = static_cast<size_t>(weights_.hidden), pairs = static_cast<size_t>(pairs_);
    Vector dbefore(hidden);
    for (size_t k = 0; k < hidden; ++k) {
      double sum = 0;
      for (size_t i = 0; i < pairs; ++i) {
        gradient.down[k * pairs + i] += at.hidden[k] * dout[i];
        sum += weights_.down[k * pairs + i] * dout[i];
      }
      dbefore[k] = sum * slope(activation_, at.before[k]);
    }
    dz.assign(pairs, 0);
    for (size_t i = 0; i < pairs; ++i)
      for (size_t k = 0; k < hidden; ++k) {
        gradient.up[i * hidden + k] += at.in[i] * dbefore[k];
        dz[i] += weights_.up[i * hidden + k] * dbefore[k];
      }
  }

 private:
  const ClexWeights& weights_;
  const RopeConfig::Activation activation_;
  const double base_;
  const int64_t pairs_;
};

// One step from z(t) of length `step`; stores k1 … k4 in `at`.
void take_step(const Dynamics& dynamics, double t, double step, const Vector& z, Evaluation (&at)[4]) {
  Vector inner = z;
  dynamics.evaluate(t, inner, at[0]);
  add_to(inner = z, step / 3, at[0].out);
  dynamics.evaluate(t + step / 3, inner, at[1]);
  add_to(inner = z, step, at[1].out);
  add_to(inner, -step / 3, at[0].out);
  dynamics.evaluate(t + 2 * step / 3, inner, at[2]);
  add_to(inner = z, step, at[0].out);
  add_to(inner, -step, at[1].out);
  add_to(inner, step, at[2].out);
  dynamics.evaluate(t + step, inner, at[3]);
}

// z at the beginning of every step, and at the end.
struct Path {
  double step = 0;
  std::vector<Vector> z;
};

Path integrate(const RopeConfig& config, const Dynamics& dynamics, int64_t pairs, double stretch) {
  const auto steps = static_cast<int64_t>(std::ceil((stretch - 1) / config.time_step - 1e-9));
  Path path;
  path.step = steps == 0 ? 0 : (stretch - 1) / static_cast<double>(steps);
  Vector z(static_cast<size_t>(pairs));
  for (size_t i = 0; i < z.size(); ++i)
    z[i] = -static_cast<double>(i) / static_cast<double>(pairs) * std::log(config.base);
  path.z.push_back(z);
  Evaluation at[4];
  for (int64_t n = 0; n < steps; ++n) {
    take_step(dynamics, 1 + static_cast<double>(n) * path.step, path.step, z, at);
    for (int k = 0; k < 4; ++k) add_to(z, path.step * (k == 0 || k == 3 ? 0.125 : 0.375), at[k].out);
    path.z.push_back(z);
  }
  return path;
}

void require_pairs(int64_t pairs) {
  if (pairs < 2)
    fail(ExitCode::kUsage, "rope type clex needs more than one rotary pair, the head has {}, use another type", pairs);
}

}  // namespace

int64_t clex_hidden(const RopeConfig& config, int64_t pairs) { return config.param_factor * 2 * pairs; }

double clex_stretch(const RopeConfig& config, int64_t length) {
  const int64_t trained = config.original_max_position_embeddings;
  return std::min(static_cast<double>(std::max<int64_t>(1, (length + trained - 1) / trained)),
                  std::max(1.0, config.factor));
}

std::vector<double> clex_frequencies(const RopeConfig& config, int64_t pairs, double stretch) {
  require_pairs(pairs);
  Vector z;
  if (config.dynamics) {
    z = integrate(config, Dynamics(config, pairs), pairs, stretch).z.back();
  } else {
    const double d = 2.0 * static_cast<double>(pairs);
    for (int64_t i = 0; i < pairs; ++i) {
      const double twice = 2.0 * static_cast<double>(i);
      z.push_back(-twice / d * std::log(config.base) - twice / (d - 2) * std::log(2 * stretch - 1));
    }
  }
  for (double& value : z) value = std::exp(value);
  return z;
}

ClexWeights clex_gradient(const RopeConfig& config, int64_t pairs, double stretch, std::span<const double> gradient) {
  require_pairs(pairs);
  const Dynamics dynamics(config, pairs);
  const Path path = integrate(config, dynamics, pairs, stretch);
  ClexWeights result = *config.dynamics;
  std::fill(result.up.begin(), result.up.end(), 0);
  std::fill(result.down.begin(), result.down.end(), 0);
  const double step = path.step;
  Vector dz(gradient.begin(), gradient.end()), dinner;
  Evaluation at[4];
  for (size_t n = path.z.size() - 1; n-- > 0;) {
    take_step(dynamics, 1 + static_cast<double>(n) * step, step, path.z[n], at);
    Vector dk[4];
    for (int k = 0; k < 4; ++k) {
      dk[k].assign(dz.size(), 0);
      add_to(dk[k], step * (k == 0 || k == 3 ? 0.125 : 0.375), dz);
    }
    // Starts with the last evaluation: each passes its gradient on to those it was computed from.
    dynamics.backward(at[3], dk[3], result, dinner);
    add_to(dz, 1, dinner);
    add_to(dk[0], step, dinner);
    add_to(dk[1], -step, dinner);
    add_to(dk[2], step, dinner);
    dynamics.backward(at[2], dk[2], result, dinner);
    add_to(dz, 1, dinner);
    add_to(dk[1], step, dinner);
    add_to(dk[0], -step / 3, dinner);
    dynamics.backward(at[1], dk[1], result, dinner);
    add_to(dz, 1, dinner);
    add_to(dk[0], step / 3, dinner);
    dynamics.backward(at[0], dk[0], result, dinner);
    add_to(dz, 1, dinner);
  }
  return result;
}

RopeConfig clex_as_longrope(const RopeConfig& config, int64_t pairs) {
  const auto divisors = [&](double stretch) {
    std::vector<double> factors = clex_frequencies(config, pairs, stretch);
    for (size_t i = 0; i < factors.size(); ++i)
      factors[i] = std::pow(config.base, -static_cast<double>(i) / static_cast<double>(pairs)) / factors[i];
    return factors;
  };
  const double longest = config.length ? clex_stretch(config, *config.length) : std::max(1.0, config.factor);
  Json settings = {{"rope_type", "longrope"},
                   {"rope_theta", config.base},
                   {"factor", config.factor},
                   {"original_max_position_embeddings", config.original_max_position_embeddings},
                   {"attention_factor", config.attention_factor.value_or(1)},
                   {"short_factor", divisors(config.length ? longest : 1)},
                   {"long_factor", divisors(longest)}};
  for (const char* key : {"resonance", "cope", "partial_rotary_factor", "llama_4_scaling_beta"})
    if (config.settings.contains(key)) settings[key] = config.settings[key];
  return parse_rope_config(settings, config.max_position_embeddings, "the exported rope", ExitCode::kInternal);
}

}  // namespace carillon
