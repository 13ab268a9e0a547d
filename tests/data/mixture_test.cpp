// Drawing from sources by weight: never off by a whole sequence, exact at the end of a period, the same from any start.
#include "data/corpus/mixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "runtime/error.h"

namespace carillon::testing {
namespace {

// The largest deviation of a source from its share within the first `draws`, in sequences; pick: the source of draw n.
double worst_deviation(const std::vector<int64_t>& shares, int64_t draws, const std::function<size_t(int64_t)>& pick) {
  int64_t period = 0;
  for (const int64_t share : shares) period += share;
  std::vector<int64_t> counts(shares.size());
  double worst = 0;
  for (int64_t n = 1; n <= draws; ++n) {
    ++counts[pick(n - 1)];
    for (size_t i = 0; i < shares.size(); ++i) {
      const auto off = static_cast<double>(counts[i]) -
                       static_cast<double>(n) * static_cast<double>(shares[i]) / static_cast<double>(period);
      worst = std::max(worst, std::abs(off));
    }
  }
  return worst;
}

std::vector<double> random_weights(std::mt19937& random) {
  std::vector<double> weights(2 + random() % 14);
  for (double& weight : weights) weight = static_cast<double>(1 + random() % (random() % 3 == 0 ? 1000 : 20)) / 100;
  return weights;
}

TEST(Mixture, EachSourceIsWithinOneSequenceOfItsShare) {
  std::mt19937 random(1);
  double worst = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Mixture mixture(random_weights(random), "a test");
    const int64_t draws = std::min<int64_t>(2 * mixture.period() + 3, 6000);
    worst = std::max(worst, worst_deviation(mixture.shares(), draws, [&](int64_t n) { return mixture.at(n).source; }));
  }
  EXPECT_LT(worst, 1);
  EXPECT_GT(worst, 0.9) << "the weights are hard enough to tell";
}

// The simpler rule, taking the source with the largest deficit, is worse.
TEST(Mixture, TheLargestDeficitWouldNotBe) {
  std::mt19937 random(1);
  double worst = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const Mixture mixture(random_weights(random), "a test");
    const std::vector<int64_t>& shares = mixture.shares();
    std::vector<int64_t> counts(shares.size());
    worst =
        std::max(worst, worst_deviation(shares, std::min<int64_t>(mixture.period(), 6000), [&](int64_t n) {
                   size_t most = 0;
                   const auto deficit = [&](size_t i) { return (n + 1) * shares[i] - counts[i] * mixture.period(); };
                   for (size_t i = 1; i < shares.size(); ++i)
                     if (deficit(i) > deficit(most)) most = i;
                   ++counts[most];
                   return most;
                 }));
  }
  EXPECT_GT(worst, 1);
}

TEST(Mixture, WeightsAreTheDecimalsTheyWereWrittenAs) {
  const auto shares = [](const std::vector<double>& weights) { return Mixture(weights, "a test").shares(); };
  EXPECT_EQ(shares({0.7, 0.2, 0.1}), (std::vector<int64_t>{7, 2, 1}));
  EXPECT_EQ(shares({1, 1, 1}), (std::vector<int64_t>{1, 1, 1}));
  EXPECT_EQ(shares({3, 1.5}), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(shares({1e-8, 1}), (std::vector<int64_t>{1, 100000000}));
  EXPECT_EQ(shares({123, 1e3}), (std::vector<int64_t>{123, 1000}));
  EXPECT_EQ(shares({0.3333333333333333, 0.6666666666666666}), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(shares({0.1234567890123, 1}), (std::vector<int64_t>{1234567890123, 10000000000000})) << "every digit";
  EXPECT_EQ(shares({5e-324}), (std::vector<int64_t>{1}));
  for (const auto& weights : {std::vector<double>{1e-300, 1}, {1e17, 0.01}, {0.12345678901234567, 100}})
    EXPECT_THROW(shares(weights), Error);
}

TEST(Mixture, ADrawIsAFunctionOfItsNumber) {
  const std::vector<double> weights{0.61, 0.237, 0.1, 0.053001};
  Mixture forward(weights, "a test");
  std::vector<Mixture::Draw> draws;
  std::vector<int64_t> counts(4);
  for (int64_t n = 0; n < 300000; ++n) {
    draws.push_back(forward.at(n));
    EXPECT_EQ(draws.back().count, counts[draws.back().source]++);
  }
  Mixture jumping(weights, "a test");
  for (const int64_t n : {299999L, 0L, 65536L, 65535L, 200000L, 131071L, 131072L, 3L, 299998L}) {
    const Mixture::Draw draw = jumping.at(n);
    EXPECT_EQ(draw.source, draws[static_cast<size_t>(n)].source) << n;
    EXPECT_EQ(draw.count, draws[static_cast<size_t>(n)].count) << n;
  }
  // Far along, whole periods of small numbers are skipped.
  Mixture small({0.7, 0.2, 0.1}, "a test");
  const int64_t far = 1'000'000'000'000;
  EXPECT_EQ(small.at(far + 4).source, small.at(4).source);
  EXPECT_EQ(small.at(far + 4).count - small.at(4).count, far / 10 * small.shares()[small.at(4).source]);
}

}  // namespace
}  // namespace carillon::testing
