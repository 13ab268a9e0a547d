#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "model/clex.h"
#include "runtime/check.h"

namespace carillon {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

// b^(-2i/d) for i in [0, pairs).
std::vector<double> plain_frequencies(double base, int64_t width, int64_t pairs) {
  std::vector<double> result(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i)
    result[static_cast<size_t>(i)] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(width));
  return result;
}

double ntk_base(const RopeConfig& config, double stretch, int64_t width) {
  if (width <= 2)
    fail(ExitCode::kUsage, "rope type {} needs more than one rotary pair, the head has {}, use another type",
         name_of(config.type), width / 2);
  return config.base * std::pow(stretch, static_cast<double>(width) / static_cast<double>(width - 2));
}

double original(const RopeConfig& config) { return static_cast<double>(config.original_max_position_embeddings); }

void yarn(const RopeConfig& config, int64_t width, std::vector<double>& theta) {
  const YarnRamp ramp = yarn_ramp(config, width);
  for (size_t i = 0; i < theta.size(); ++i) {
    const double interpolated = std::clamp((static_cast<double>(i) - ramp.low) / (ramp.high - ramp.low), 0.0, 1.0);
    if (config.wavelength_blend)
      theta[i] /= config.factor * interpolated + (1 - interpolated);
    else
      theta[i] = theta[i] * (1 - interpolated) + theta[i] / config.factor * interpolated;
  }
}

void ntk_by_parts(const RopeConfig& config, std::vector<double>& theta) {
  for (double& frequency : theta) {
    const double turns = original(config) * frequency / kTurn;
    const double kept = std::clamp((turns - config.beta_slow) / (config.beta_fast - config.beta_slow), 0.0, 1.0);
    frequency = (1 - kept) * frequency / config.factor + kept * frequency;
  }
}

void llama3(const RopeConfig& config, std::vector<double>& theta) {
  const double low = config.low_freq_factor, high = config.high_freq_factor;
  for (double& frequency : theta) {
    const double wavelength = kTurn / frequency;
    if (wavelength < original(config) / high) continue;
    if (wavelength > original(config) / low) {
      frequency /= config.factor;
    } else {
      const double kept = (original(config) / wavelength - low) / (high - low);
      frequency = (1 - kept) * frequency / config.factor + kept * frequency;
    }
  }
}

void longrope(const RopeConfig& config, int64_t length, std::vector<double>& theta) {
  const bool is_long = length > config.original_max_position_embeddings;
  const std::vector<double>& divisor = is_long ? config.long_factor : config.short_factor;
  if (divisor.size() != theta.size()) {
    fail(ExitCode::kUsage, "rope.{} has {} entries, the head has {} rotary pairs, give one entry per pair",
         is_long ? "long_factor" : "short_factor", divisor.size(), theta.size());
  }
  for (size_t i = 0; i < theta.size(); ++i) theta[i] /= divisor[i];
}

// Share of positions [0, length) in each bin of a turn.
std::vector<double> angle_shares(double frequency, int64_t length) {
  constexpr size_t kBins = 360;
  std::vector<int64_t> counts(kBins);
  const double turns_a_token = frequency / kTurn;
  for (int64_t position = 0; position < length; ++position) {
    const double turns = static_cast<double>(position) * turns_a_token;
    ++counts[std::min(kBins - 1, static_cast<size_t>((turns - std::floor(turns)) * kBins))];
  }
  std::vector<double> shares;
  for (const int64_t count : counts) shares.push_back(static_cast<double>(count) / static_cast<double>(length));
  return shares;
}

double disturbance(const std::vector<double>& shares, const std::vector<double>& trained) {
  constexpr double kEpsilon = 1e-8;
  double sum = 0;
  for (size_t bin = 0; bin < shares.size(); ++bin)
    sum += shares[bin] * std::log((shares[bin] + kEpsilon) / (trained[bin] + kEpsilon));
  return sum;
}

void distributional(const RopeConfig& config, std::vector<double>& theta) {
  // Examines every position: two seconds per pair at this length.
  constexpr double kMostPositions = 1 << 28;
  const double reach = config.factor * original(config);
  if (!(reach <= kMostPositions))
    fail(ExitCode::kUsage,
         "rope type distributional looks at every one of {:.6g} positions, in rope, give a factor of at most {:.6g}",
         reach, kMostPositions / original(config));
  const auto length = static_cast<int64_t>(std::llround(reach));
  for (double& frequency : theta) {
    const std::vector<double> trained = angle_shares(frequency, config.original_max_position_embeddings);
    const double as_it_is = disturbance(angle_shares(frequency, length), trained);
    const double interpolated = disturbance(angle_shares(frequency / config.factor, length), trained);
    if (as_it_is > interpolated + config.disturbance_threshold) frequency /= config.factor;
  }
}

double temperature(double factor, double scale) { return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1; }

double attention_factor(const RopeConfig& config) {
  if (config.type == RopeType::kYarn) {
    if (config.attention_factor) return *config.attention_factor;
    if (config.mscale != 0 && config.mscale_all_dim != 0)
      return temperature(config.factor, config.mscale) / temperature(config.factor, config.mscale_all_dim);
    return temperature(config.factor, 1);
  }
  if (config.type == RopeType::kLongRope) {
    if (config.attention_factor) return *config.attention_factor;
    return config.factor <= 1 ? 1 : std::sqrt(1 + std::log(config.factor) / std::log(original(config)));
  }
  return config.attention_factor.value_or(1);
}

// CoPE (Li et al., 2602.05258, as its published code computes it): multiplies the frequencies of the last N pairs by
// half a cosine, (1 + cos(π·j/(N − 1))) / 2 for j = 0 … N − 1. The first of them is unchanged, the last one does not
// turn.
void fade(const RopeConfig& config, std::vector<double>& theta) {
  const auto faded = static_cast<size_t>(config.cope);
  if (faded > theta.size())
    fail(ExitCode::kUsage, "rope.cope is {}, the head has {} rotary pairs, give at most that many", faded,
         theta.size());
  for (size_t j = 0; j < faded; ++j) {
    const double angle = std::numbers::pi * static_cast<double>(j) / static_cast<double>(faded - 1);
    // In floating point cos(π) would leave a tiny value; exactly 0 is meant.
    theta[theta.size() - faded + j] *= j + 1 == faded ? 0 : 0.5 * (1 + std::cos(angle));
  }
}

// Rounds to whole tokens, ties to even as in the published code. Pairs that do not turn have no wavelength.
void resonate(RopeTable& table) {
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i) {
    if (table.inverse_frequency[i] == 0) continue;
    const double rounded = std::max(1.0, std::nearbyint(table.wavelength[i]));
    // Beyond 2^62 tokens the repetition does not matter, and the integer could not hold it.
    if (rounded > 0x1p62) continue;
    table.period[i] = static_cast<int64_t>(rounded);
    table.inverse_frequency[i] = kTurn / rounded;
  }
}

template <class T>
void fill_pair(const RopeTable& table, size_t pair, std::span<const int64_t> positions, T* cosine, T* sine,
               int64_t stride) {
  const int64_t period = table.period[pair];
  for (size_t n = 0; n < positions.size(); ++n) {
    const size_t at = n * static_cast<size_t>(stride) + pair;
    const int64_t position = positions[n];
    if (period > 0 && static_cast<int64_t>(n) >= period &&
        positions[n - static_cast<size_t>(period)] == position - period) {
      cosine[at] = cosine[at - static_cast<size_t>(period * stride)];
      sine[at] = sine[at - static_cast<size_t>(period * stride)];
      continue;
    }
    const double angle = period > 0 ? kTurn * (static_cast<double>(position % period) / static_cast<double>(period))
                                    : static_cast<double>(position) * table.inverse_frequency[pair];
    cosine[at] = static_cast<T>(table.attention_factor * std::cos(angle));
    sine[at] = static_cast<T>(table.attention_factor * std::sin(angle));
  }
}

int64_t rotary_width(const RopeConfig& config, int64_t head_dim) {
  if (config.type == RopeType::kProportional) return head_dim;
  return static_cast<int64_t>(static_cast<double>(head_dim) * config.partial_rotary_factor);
}

}  // namespace

int64_t rotary_pairs(const RopeConfig& config, int64_t head_dim) { return rotary_width(config, head_dim) / 2; }

YarnRamp yarn_ramp(const RopeConfig& config, int64_t width) {
  const double d = static_cast<double>(width);
  const auto pair_with_turns = [&](double turns) {
    return d * std::log(original(config) / (kTurn * turns)) / (2 * std::log(config.base));
  };
  YarnRamp ramp{pair_with_turns(config.beta_fast), pair_with_turns(config.beta_slow)};
  if (config.truncate) ramp = {std::floor(ramp.low), std::ceil(ramp.high)};
  // The upper clamp is to width - 1, not to the last pair; all implementations agree on it.
  ramp = {std::max(ramp.low, 0.0), std::min(ramp.high, d - 1)};
  if (ramp.low == ramp.high) ramp.high += 0.001;
  return ramp;
}

double disturbance(double frequency, int64_t length, double trained_frequency, int64_t trained) {
  return disturbance(angle_shares(frequency, length), angle_shares(trained_frequency, trained));
}

RopeTable make_rope_table(const RopeConfig& config, int64_t head_dim, int64_t length) {
  const int64_t width = rotary_width(config, head_dim);
  if (width < 0 || width % 2 != 0)
    fail(ExitCode::kUsage,
         "a rotary width of {} of head_dim {} is not even, change rope.partial_rotary_factor or head_dim", width,
         head_dim);
  const int64_t sequence = config.length.value_or(length);
  RopeTable table;
  table.inverse_frequency = plain_frequencies(config.base, width, width / 2);
  std::vector<double>& theta = table.inverse_frequency;
  switch (config.type) {
    case RopeType::kNone:
      std::fill(theta.begin(), theta.end(), 0.0);
      break;
    case RopeType::kDefault:
      break;
    case RopeType::kLinear:
      for (double& frequency : theta) frequency /= config.factor;
      break;
    case RopeType::kNtk:
      theta = plain_frequencies(ntk_base(config, config.factor, width), width, width / 2);
      break;
    case RopeType::kDynamic: {
      if (config.alpha) {
        theta = plain_frequencies(ntk_base(config, *config.alpha, width), width, width / 2);
        break;
      }
      const double trained = static_cast<double>(config.max_position_embeddings);
      const double now = std::max(static_cast<double>(sequence), trained);
      theta = plain_frequencies(ntk_base(config, config.factor * now / trained - (config.factor - 1), width), width,
                                width / 2);
      break;
    }
    case RopeType::kNtkByParts:
      ntk_by_parts(config, theta);
      break;
    case RopeType::kYarn:
      yarn(config, width, theta);
      break;
    case RopeType::kLlama3:
      llama3(config, theta);
      break;
    case RopeType::kLongRope:
      longrope(config, sequence, theta);
      break;
    case RopeType::kDistributional:
      distributional(config, theta);
      break;
    case RopeType::kClex:
      theta = clex_frequencies(config, width / 2, clex_stretch(config, sequence));
      break;
    case RopeType::kProportional: {
      const auto turning = static_cast<size_t>(config.partial_rotary_factor * static_cast<double>(head_dim) / 2);
      for (size_t i = 0; i < theta.size(); ++i) theta[i] = i < turning ? theta[i] / config.factor : 0;
      break;
    }
  }
  fade(config, theta);
  table.attention_factor = attention_factor(config);
  table.period.assign(theta.size(), 0);
  for (double frequency : theta)
    table.wavelength.push_back(frequency == 0 ? std::numeric_limits<double>::infinity() : kTurn / frequency);
  if (config.resonance) resonate(table);
  return table;
}

void fill_rotation(const RopeTable& table, std::span<const int64_t> positions, Tensor cosine, Tensor sine) {
  const int64_t pairs = static_cast<int64_t>(table.inverse_frequency.size());
  CHECK(cosine.count() == static_cast<int64_t>(positions.size()) * pairs && sine.count() == cosine.count(),
        "tables are [positions, pairs]", cosine.count(), positions.size(), pairs);
  const auto fill = [&](auto type) {
    using T = decltype(type);
    for (int64_t pair = 0; pair < pairs; ++pair)
      fill_pair<T>(table, static_cast<size_t>(pair), positions, cosine.data<T>(), sine.data<T>(), pairs);
  };
  if (cosine.dtype() == DType::kFloat64)
    fill(double{});
  else
    fill(float{});
}

}  // namespace carillon
