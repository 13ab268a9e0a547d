// The evolutionary search for longrope's divisors without a model: bounds, order, the composition of a generation, and
// that it finds a planted optimum. (With a model: rope_search_test.py.)
#include "launch/search/rope_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace carillon::testing {
namespace {

constexpr double kFactor = 4;
const std::vector<RopeFactors> kSeeds = {
    {1, 1, 1, 1.5, 2.5, 4, 4, 4}, {1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4}, {4, 4, 4, 4, 4, 4, 4, 4}};
const RopeFactors kTarget = {1, 1.1, 1.4, 1.4, 3.2, 3.9, 4.6, 5};

double distance(const RopeFactors& factors) {
  double sum = 0;
  for (size_t i = 0; i < factors.size(); ++i) sum += std::pow(factors[i] - kTarget[i], 2);
  return sum;
}

struct Asked {
  int64_t iteration;
  RopeFactors factors;
  bool operator==(const Asked&) const = default;
};
std::vector<Asked> asked_for(const RopeSearchOptions& options, std::vector<RopeCandidate>* found = nullptr) {
  std::vector<Asked> asked;
  const auto result = RopeSearch(options, kFactor, kSeeds).run([&](int64_t iteration, const RopeFactors& factors) {
    asked.push_back({iteration, factors});
    return distance(factors);
  });
  if (found != nullptr) *found = result;
  return asked;
}

TEST(RopeSearch, EveryCandidateIsOne) {
  RopeSearchOptions options;
  options.iterations = 30;
  const std::vector<Asked> asked = asked_for(options);
  std::set<RopeFactors> different;
  for (const Asked& candidate : asked) {
    ASSERT_EQ(candidate.factors.size(), 8u);
    EXPECT_TRUE(std::is_sorted(candidate.factors.begin(), candidate.factors.end()));
    EXPECT_GE(candidate.factors.front(), 1);
    EXPECT_LE(candidate.factors.back(), 1.25 * kFactor);
    EXPECT_TRUE(different.insert(candidate.factors).second) << "asked for twice";
  }
  for (size_t i = 0; i < kSeeds.size(); ++i) EXPECT_EQ(asked[i].factors, kSeeds[i]);
  int64_t first = 0, second = 0;
  for (const Asked& candidate : asked) first += candidate.iteration == 0, second += candidate.iteration == 1;
  EXPECT_LE(first, options.population);
  EXPECT_GT(first, options.population / 2);
  EXPECT_LE(second, options.mutations + options.crossovers);
  EXPECT_GT(second, options.mutations / 2);
  // Changed divisors lie on the grid, unless a neighbour limits them.
  for (const Asked& candidate : asked)
    for (const double factor : candidate.factors) {
      bool known = std::abs(std::remainder(factor, options.step)) < 1e-9;
      for (const RopeFactors& seed : kSeeds) known = known || std::count(seed.begin(), seed.end(), factor) > 0;
      EXPECT_TRUE(known) << factor;
    }
}

TEST(RopeSearch, FindsWhatItIsLedTo) {
  RopeSearchOptions options;
  std::vector<RopeCandidate> found;
  asked_for(options, &found);
  double seeds = INFINITY;
  for (const RopeFactors& seed : kSeeds) seeds = std::min(seeds, distance(seed));
  EXPECT_LT(found.front().loss, seeds / 20);
  EXPECT_TRUE(std::is_sorted(found.begin(), found.end(),
                             [](const RopeCandidate& a, const RopeCandidate& b) { return a.loss < b.loss; }));
  EXPECT_EQ(found.front().loss, distance(found.front().factors));
}

TEST(RopeSearch, AsksTheSameInTheSameOrder) {
  RopeSearchOptions options;
  options.iterations = 5;
  const std::vector<Asked> once = asked_for(options);
  EXPECT_EQ(asked_for(options), once);
  RopeSearchOptions longer = options;
  longer.iterations = 7;
  const std::vector<Asked> more = asked_for(longer);
  EXPECT_TRUE(std::equal(once.begin(), once.end(), more.begin())) << "a longer search begins like a shorter one";
  options.seed = 43;
  EXPECT_NE(asked_for(options), once);
}

TEST(RopeSearch, WhatIsNoNumberIsTheWorst) {
  RopeSearchOptions options;
  options.iterations = 3;
  const auto found = RopeSearch(options, kFactor, kSeeds).run([](int64_t, const RopeFactors& factors) {
    return factors[1] > 1 ? std::nan("") : distance(factors);
  });
  EXPECT_EQ(found.front().factors[1], 1);
  EXPECT_TRUE(std::isinf(found.back().loss));
}

// A list that decreases or leaves the bounds is moved to one that does not.
TEST(RopeSearch, SeedsAreMovedIntoBounds) {
  RopeSearchOptions options;
  options.population = 1, options.iterations = 0;
  const auto found = RopeSearch(options, kFactor, {{0.5, 3, 2, 9}}).run([](int64_t, const RopeFactors&) { return 0; });
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0].factors, ::testing::ElementsAre(1, 3, 3, 5));
}

}  // namespace
}  // namespace carillon::testing
