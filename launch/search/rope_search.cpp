#include "launch/search/rope_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/check.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

constexpr uint64_t kStream = stream_of("rope search");

}  // namespace

RopeSearch::RopeSearch(const RopeSearchOptions& options, double factor, const std::vector<RopeFactors>& seeds)
    : options_(options), largest_(1.25 * factor) {
  CHECK(!seeds.empty() && !seeds.front().empty(), "a search begins somewhere");
  for (const RopeFactors& seed : seeds) seeds_.push_back(within_bounds(seed));
}

double RopeSearch::uniform() { return random_uniform(options_.seed, kStream, drawn_++); }
size_t RopeSearch::below(size_t bound) {
  return static_cast<size_t>(random_below(bound, options_.seed, kStream, drawn_++));
}

RopeFactors RopeSearch::within_bounds(RopeFactors factors) const {
  double least = 1;
  for (double& factor : factors) least = factor = std::clamp(factor, least, largest_);
  return factors;
}

// Each changed divisor is placed between its neighbours, where the previous one may already be changed, so the result
// also increases.
RopeFactors RopeSearch::mutated(const RopeFactors& parent) {
  RopeFactors child = parent;
  for (size_t i = 0; i < child.size(); ++i) {
    const double chance = uniform(), place = uniform();
    if (chance >= options_.probability) continue;
    const double low = i == 0 ? 1 : child[i - 1], high = i + 1 < child.size() ? parent[i + 1] : largest_;
    const double drawn = std::round((low + place * (high - low)) / options_.step) * options_.step;
    child[i] = std::clamp(drawn, low, high);
  }
  return child;
}

RopeFactors RopeSearch::crossed(const RopeFactors& one, const RopeFactors& other) {
  constexpr int kAttempts = 20;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    RopeFactors child = one;
    for (size_t i = 0; i < child.size(); ++i)
      if (uniform() < 0.5) child[i] = other[i];
    if (std::is_sorted(child.begin(), child.end())) return child;
  }
  return {};
}

std::vector<RopeCandidate> RopeSearch::run(const Loss& loss) {
  std::map<RopeFactors, double> known;
  std::vector<RopeCandidate> all;
  const auto look_at = [&](int64_t iteration, const RopeFactors& factors) {
    if (known.contains(factors)) return;
    const double found = loss(iteration, factors);
    known[factors] = found;
    all.push_back({factors, std::isnan(found) ? std::numeric_limits<double>::infinity() : found});
  };
  const auto best_first = [&] {
    std::stable_sort(all.begin(), all.end(),
                     [](const RopeCandidate& a, const RopeCandidate& b) { return a.loss < b.loss; });
  };
  for (const RopeFactors& seed : seeds_) look_at(0, seed);
  const auto population = static_cast<size_t>(std::max<int64_t>(0, options_.population));
  for (size_t number = seeds_.size(); number < population; ++number) look_at(0, mutated(seeds_.front()));
  for (int64_t iteration = 1; iteration <= options_.iterations; ++iteration) {
    best_first();
    const size_t count = std::min(all.size(), static_cast<size_t>(options_.parents));
    std::vector<RopeFactors> parents;
    for (size_t i = 0; i < count; ++i) parents.push_back(all[i].factors);
    for (int64_t number = 0; number < options_.mutations; ++number)
      look_at(iteration, mutated(parents[below(parents.size())]));
    for (int64_t number = 0; number < options_.crossovers; ++number) {
      const size_t one = below(parents.size()), other = below(parents.size());
      const RopeFactors child = crossed(parents[one], parents[other]);
      if (!child.empty()) look_at(iteration, child);
    }
  }
  best_first();
  return all;
}

}  // namespace carillon
