// Positions with skips as defined by their papers: PoSE's worked example, the ranges of both methods, which must be
// used completely, what stays together, and that only seed, sequence and document matter.
#include "data/corpus/positions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

namespace carillon::testing {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> drawn(int64_t tokens, const PositionSettings& settings, const PositionDraw& draw,
                           const std::vector<double>& weights = {}) {
  std::vector<int64_t> position(static_cast<size_t>(tokens), -1);
  draw_positions(position, weights, settings, draw);
  return position;
}

std::vector<int64_t> counted(int64_t tokens) {
  std::vector<int64_t> position(static_cast<size_t>(tokens));
  std::iota(position.begin(), position.end(), 0);
  return position;
}

// The indices at which the position is not one more than the one before.
std::vector<size_t> breaks_of(const std::vector<int64_t>& position) {
  std::vector<size_t> breaks;
  for (size_t i = 1; i < position.size(); ++i)
    if (position[i] != position[i - 1] + 1) breaks.push_back(i);
  return breaks;
}

// From the code of 2309.10400: eight tokens in at most 16 positions, a first chunk of 3, a skip of 5.
TEST(Positions, PoseMovesTheSecondChunk) {
  std::vector<int64_t> position(8);
  positions_with_one_skip(position, 3, 5);
  EXPECT_THAT(position, ElementsAre(0, 1, 2, 8, 9, 10, 11, 12));
}

TEST(Positions, PoseDrawsChunkAndSkipFromTheirWholeRanges) {
  const PositionSettings pose{PositionKind::kPose, 16};
  for (const int64_t tokens : {2, 7, 8}) {
    std::set<size_t> chunks;
    std::set<int64_t> skips;
    std::vector<double> skips_of(17);
    constexpr int kDraws = 20000;
    for (int n = 0; n < kDraws; ++n) {
      const std::vector<int64_t> position = drawn(tokens, pose, {7, n, n % 3});
      EXPECT_EQ(position.front(), 0);
      const std::vector<size_t> breaks = breaks_of(position);
      ASSERT_LE(breaks.size(), 1u);
      const int64_t skip = position.back() - (tokens - 1);
      skips.insert(skip);
      skips_of[static_cast<size_t>(skip)] += 1;
      if (!breaks.empty()) chunks.insert(breaks[0]);
    }
    // r in [1, (n + 1) / 2], u in [0, length − n], both ends included.
    EXPECT_EQ(*chunks.begin(), 1u);
    EXPECT_EQ(static_cast<int64_t>(*chunks.rbegin()), (tokens + 1) / 2);
    EXPECT_EQ(static_cast<int64_t>(chunks.size()), (tokens + 1) / 2);
    EXPECT_EQ(*skips.begin(), 0);
    EXPECT_EQ(*skips.rbegin(), 16 - tokens);
    // Uniform: each of the m values is drawn kDraws/m times, within five standard deviations.
    const double values = static_cast<double>(16 - tokens + 1), share = kDraws / values;
    for (int64_t skip = 0; skip <= 16 - tokens; ++skip)
      EXPECT_NEAR(skips_of[static_cast<size_t>(skip)], share, 5 * std::sqrt(share)) << tokens << " " << skip;
  }
}

TEST(Positions, SkipAlignSkipsWhereTrainedAndUntrainedMeet) {
  // Two turns of two blocks. The first token is never a target, whatever its weight.
  const std::vector<double> weights = {1, 0, 0, 1, 1, 0, 0, 0.5, 1};
  PositionSettings settings{PositionKind::kSkipAlign, 40, 1};
  std::set<size_t> where;
  int64_t furthest = 0;
  for (int n = 0; n < 5000; ++n) {
    const std::vector<int64_t> position = drawn(9, settings, {7, n, 0}, weights);
    for (const size_t at : breaks_of(position)) where.insert(at);
    EXPECT_LT(position.back(), 40);
    furthest = std::max(furthest, position.back());
  }
  EXPECT_THAT(where, ElementsAre(3u, 5u, 7u));
  EXPECT_EQ(furthest, 39);
  // A skip occurs with its probability of 0.25; in one of 32 cases the first skip is 0.
  settings.skip_probability = 0.25;
  int moved = 0;
  for (int n = 0; n < 20000; ++n) moved += drawn(9, settings, {7, n, 0}, weights)[3] != 3;
  EXPECT_NEAR(moved, 20000 * 0.25 * 31 / 32, 5 * std::sqrt(20000 * 0.25));
  EXPECT_EQ(drawn(9, settings, {7, 1, 0}), counted(9)) << "all tokens trained: one block";
  EXPECT_EQ(drawn(9, settings, {7, 1, 0}, std::vector<double>(9, 1.0)), counted(9));
}

TEST(Positions, RandomOnesAreASortedSampleBetweenTheEnds) {
  // A document of 6 tokens at stretch 3: 18 positions, with 4 of the 16 places between the ends taken.
  const PositionSettings random{PositionKind::kRandom, 64, 0.5, 3, 20};
  std::vector<double> taken(18);
  constexpr int kDraws = 20000;
  for (int n = 0; n < kDraws; ++n) {
    const std::vector<int64_t> position = drawn(6, random, {7, n, 0});
    EXPECT_EQ(position.front(), 0);
    EXPECT_EQ(position.back(), 17);
    for (size_t i = 1; i < position.size(); ++i) EXPECT_LT(position[i - 1], position[i]);
    for (const int64_t at : position) taken[static_cast<size_t>(at)] += 1;
  }
  for (size_t at = 1; at < 17; ++at) EXPECT_NEAR(taken[at], kDraws / 4.0, 5 * std::sqrt(kDraws / 4.0)) << at;
  // Longer documents than in training are stretched to the same range, and never compressed.
  EXPECT_EQ(drawn(30, random, {7, 1, 0}).back(), 59);
  EXPECT_EQ(drawn(64, random, {7, 1, 0}), counted(64));
  EXPECT_THAT(drawn(2, random, {7, 1, 0}), ElementsAre(0, 5));
  EXPECT_EQ(drawn(6, {PositionKind::kRandom, 64, 0.5, 1, 20}, {7, 1, 0}), counted(6));
}

TEST(Positions, AreAFunctionOfSeedSequenceAndDocument) {
  const PositionSettings pose{PositionKind::kPose, 1 << 20};
  const std::vector<int64_t> here = drawn(100, pose, {7, 5, 2});
  EXPECT_EQ(drawn(100, pose, {7, 5, 2}), here);
  EXPECT_NE(drawn(100, pose, {8, 5, 2}), here);
  EXPECT_NE(drawn(100, pose, {7, 6, 2}), here);
  EXPECT_NE(drawn(100, pose, {7, 5, 3}), here);
  EXPECT_EQ(drawn(100, {}, {7, 5, 2}), counted(100));
  EXPECT_THAT(drawn(1, pose, {7, 5, 2}), ElementsAre(0));
  EXPECT_EQ(drawn(100, {PositionKind::kPose, 100}, {7, 5, 2}), counted(100)) << "no room, no skip";
}

}  // namespace
}  // namespace carillon::testing
