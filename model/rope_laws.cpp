#include "model/rope_laws.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace carillon {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

double log_base(double base, double value) { return std::log(value) / std::log(base); }

std::vector<double> frequencies(int64_t head_dim, double base) {
  std::vector<double> result;
  for (int64_t pair = 0; pair < head_dim / 2; ++pair)
    result.push_back(std::pow(base, -2 * static_cast<double>(pair) / static_cast<double>(head_dim)));
  return result;
}

double sum_of_cosines(std::span<const double> frequencies, int64_t distance) {
  double sum = 0;
  for (const double frequency : frequencies) sum += std::cos(static_cast<double>(distance) * frequency);
  return sum;
}

}  // namespace

int64_t critical_dimensions(int64_t head_dim, double base, double trained) {
  const double pairs = static_cast<double>(head_dim) / 2 * log_base(base, trained / kTurn);
  return std::clamp<int64_t>(2 * static_cast<int64_t>(std::ceil(pairs)), 0, head_dim);
}

double critical_base(double base, double trained, double tuned) {
  return std::pow(base, log_base(trained / kTurn, tuned / kTurn));
}

double extrapolation_bound(int64_t head_dim, double base, double trained, double new_base, double tuned) {
  if (new_base <= critical_base(base, trained, tuned)) return tuned;
  const double share =
      static_cast<double>(critical_dimensions(head_dim, base, trained)) / static_cast<double>(head_dim);
  return kTurn * std::pow(new_base, share);
}

double base_for_length(int64_t head_dim, double base, double trained, double length) {
  const double share =
      static_cast<double>(critical_dimensions(head_dim, base, trained)) / static_cast<double>(head_dim);
  return std::pow(length / kTurn, 1 / share);
}

SmallBases small_bases(double tuned) {
  const double pi = std::numbers::pi;
  return {2 * tuned / pi, tuned / pi, tuned / (2 * pi)};
}

double similarity_score(int64_t head_dim, double base, int64_t distance) {
  return sum_of_cosines(frequencies(head_dim, base), distance);
}

std::optional<int64_t> first_negative_similarity(int64_t head_dim, double base, int64_t length) {
  return first_negative_similarity(frequencies(head_dim, base), length, length);
}

std::optional<int64_t> first_negative_similarity(std::span<const double> inverse_frequency, int64_t length,
                                                 int64_t dense) {
  for (int64_t distance = 0; distance < length;
       distance += distance < dense ? 1 : std::max<int64_t>(1, 2 * distance / dense))
    if (sum_of_cosines(inverse_frequency, distance) < 0) return distance;
  return std::nullopt;
}

}  // namespace carillon
