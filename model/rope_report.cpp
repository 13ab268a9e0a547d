#include "model/rope_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

namespace carillon {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

// Where a pair points at a position, as a fraction of a turn in [0, 1). Uses integer arithmetic if there is a period.
double turn_at(const RopeTable& table, size_t pair, int64_t position) {
  const int64_t period = table.period[pair];
  if (period > 0) return static_cast<double>(position % period) / static_cast<double>(period);
  const double turns = static_cast<double>(position) * table.inverse_frequency[pair] / kTurn;
  return turns - std::floor(turns);
}

double distance(double turn_a, double turn_b) { return 2 * std::abs(std::sin(std::numbers::pi * (turn_a - turn_b))); }

double feature_gap(const RopeTable& table, size_t pair, int64_t trained, int64_t length) {
  const int64_t period = table.period[pair];
  if (table.inverse_frequency[pair] == 0 || (period > 0 && period <= trained)) return 0;
  std::vector<double> seen(static_cast<size_t>(trained));
  for (int64_t m = 0; m < trained; ++m) seen[static_cast<size_t>(m)] = turn_at(table, pair, m);
  std::sort(seen.begin(), seen.end());
  double gap = 0;
  // Nothing new appears beyond one period.
  const int64_t end = period > 0 ? std::min(length, std::max(period, trained)) : length;
  for (int64_t n = trained; n < end; ++n) {
    const double turn = turn_at(table, pair, n);
    const auto above = std::lower_bound(seen.begin(), seen.end(), turn);
    const double next = above == seen.end() ? seen.front() : *above;
    const double previous = above == seen.begin() ? seen.back() : *(above - 1);
    gap = std::max(gap, std::min(distance(turn, next), distance(turn, previous)));
  }
  return gap;
}

// log10 of the least common multiple, by the largest power of each prime: the number itself does not fit any integer.
double log10_of_common_multiple(const std::vector<int64_t>& numbers) {
  std::map<int64_t, int> largest;
  for (int64_t number : numbers)
    for (int64_t prime = 2; number > 1; ++prime) {
      if (prime * prime > number) prime = number;
      int power = 0;
      for (; number % prime == 0; number /= prime) ++power;
      if (power > 0) largest[prime] = std::max(largest[prime], power);
    }
  double sum = 0;
  for (const auto& [prime, power] : largest) sum += power * std::log10(static_cast<double>(prime));
  return sum;
}

double wrapped(double angle) { return angle - kTurn * std::ceil(angle / kTurn - 0.5); }

// Normalises the powers to a sum of 1.
std::vector<double> shares_of(const std::vector<double>& power, size_t pairs) {
  if (power.empty()) return std::vector<double>(pairs, 1.0 / static_cast<double>(pairs));
  if (power.size() != pairs)
    fail(ExitCode::kUsage, "pair_power has {} entries, the head has {} rotary pairs, give one entry per pair",
         power.size(), pairs);
  double sum = 0;
  for (const double value : power) {
    if (!(value >= 0)) fail(ExitCode::kUsage, "pair_power has the entry {}, give numbers of at least 0", value);
    sum += value;
  }
  if (!(sum > 0)) fail(ExitCode::kUsage, "pair_power has no entry above 0, give what was measured");
  std::vector<double> shares;
  for (const double value : power) shares.push_back(value / sum);
  return shares;
}

// The variance that rounding moves at a distance, as a share of the pair's own variance.
double moved(const RopeTable& table, const RopeTable& plain, size_t pair, int64_t distance) {
  const double turned = static_cast<double>(distance) * (table.inverse_frequency[pair] - plain.inverse_frequency[pair]);
  return 2 * (1 - std::cos(turned));
}

}  // namespace

RopeReport report_rope(const RopeConfig& config, int64_t head_dim, int64_t length, int64_t distance,
                       const std::vector<double>& pair_power) {
  const RopeTable table = make_rope_table(config, head_dim, length);
  RopeConfig unrounded = config;
  unrounded.resonance = false;
  const RopeTable plain = make_rope_table(unrounded, head_dim, length);
  RopeConfig unscaled_config;
  unscaled_config.base = config.base;
  unscaled_config.partial_rotary_factor = config.partial_rotary_factor;
  const std::vector<double> unscaled = make_rope_table(unscaled_config, head_dim, length).inverse_frequency;
  std::vector<int64_t> periods;
  RopeReport report;
  report.attention_factor = table.attention_factor;
  report.original_length = config.original_max_position_embeddings;
  report.length = length;
  report.distance = distance > 0 ? distance : std::max<int64_t>(1, length - 1);
  const std::vector<double> power = shares_of(pair_power, table.inverse_frequency.size());
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i) {
    RopePairReport pair;
    pair.pair = static_cast<int64_t>(i);
    pair.inverse_frequency = table.inverse_frequency[i];
    pair.wavelength = table.wavelength[i];
    pair.rounded_wavelength = std::isinf(pair.wavelength) || pair.wavelength > 0x1p62
                                  ? 0
                                  : static_cast<int64_t>(std::max(1.0, std::nearbyint(pair.wavelength)));
    pair.feature_gap = feature_gap(table, i, report.original_length, length);
    pair.unrounded_feature_gap =
        config.resonance ? feature_gap(plain, i, report.original_length, length) : pair.feature_gap;
    if (table.period[i] > 0) {
      pair.phase_shift =
          wrapped(static_cast<double>(report.distance) * (table.inverse_frequency[i] - plain.inverse_frequency[i]));
      pair.movable_share = power[i] * moved(table, plain, i, report.distance);
    }
    if (config.type == RopeType::kDistributional) {
      const double interpolated = unscaled[i] / config.factor;
      pair.disturbance_as_it_is = disturbance(unscaled[i], length, unscaled[i], report.original_length);
      pair.disturbance_interpolated = disturbance(interpolated, length, unscaled[i], report.original_length);
    }
    if (pair.wavelength < static_cast<double>(report.original_length)) {
      ++report.critical_dimension;
      if (table.period[i] > 0) periods.push_back(table.period[i]);
    }
    report.pairs.push_back(pair);
  }
  report.log10_common_period = log10_of_common_multiple(periods);
  if (config.resonance)
    for (int64_t at = 1; at > 0; at = at == length - 1 ? 0 : std::min(2 * at, length - 1)) {
      double share = 0;
      for (size_t i = 0; i < power.size(); ++i) share += power[i] * moved(table, plain, i, at);
      report.movable_by_distance.emplace_back(at, share);
    }
  return report;
}

}  // namespace carillon
