#include "data/tasks/posgen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon {
namespace {

using ::testing::ElementsAre;
using Digits = std::vector<int64_t>;

constexpr PosGenTask kTasks[] = {PosGenTask::kRecursive, PosGenTask::kCot, PosGenTask::kSemiRecursive};

// Figure 2 of the paper: M = 7, j = 1, k = 3, prefix 2 0 3 1.
TEST(PosGen, FigureTwo) {
  const Digits expected[] = {
      {2, 0, 3, 1, 6, 3, 6, 2, 3, 0, 4, 2}, {2, 0, 3, 1, 6, 5, 0, 6, 6, 0, 0, 1}, {2, 0, 3, 1, 6, 5, 5, 2, 1, 4, 1, 0}};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(posgen_sequence(kTasks[i], 7, 1, 3, {2, 0, 3, 1}, 12), expected[i]) << i;
}

TEST(PosGen, FortyTokens) {
  const Digits expected[] = {{0,  1, 2, 3,  6, 12, 6,  10, 0, 11, 10, 14, 1, 2,  10, 10, 6,  11, 3, 13,
                              16, 9, 7, 11, 9, 2,  12, 0,  6, 3,  4,  13, 9, 12, 4,  4,  12, 15, 1, 15},
                             {0, 1, 2, 3,  6, 11, 3, 3, 0,  6, 9,  15, 13, 3, 14, 13, 13, 6, 15, 0,
                              4, 2, 6, 12, 3, 4,  2, 9, 15, 9, 16, 6,  14, 2, 5,  4,  11, 3, 1,  15},
                             {0,  1, 2,  3, 6, 11, 4,  5,  5, 16, 12, 2, 2,  5, 3, 4, 16, 10, 1,  15,
                              14, 1, 12, 9, 0, 16, 10, 11, 5, 11, 15, 2, 14, 0, 3, 4, 6,  12, 15, 9}};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(posgen_sequence(kTasks[i], 17, 1, 3, {0, 1, 2, 3}, 40), expected[i]) << i;
}

TEST(PosGen, ChecksumsOver256Tokens) {
  const int64_t sum[] = {1967, 1876, 2081}, weighted[] = {246067, 243935, 273214};
  const Digits last[] = {{6, 10, 8, 10, 0, 11}, {7, 5, 12, 7, 7, 9}, {11, 6, 5, 1, 2, 15}};
  for (int i = 0; i < 3; ++i) {
    const Digits x = posgen_sequence(kTasks[i], 17, 1, 3, {0, 1, 2, 3}, 256);
    int64_t s = 0, w = 0;
    for (size_t l = 0; l < x.size(); ++l) s += x[l], w += static_cast<int64_t>(l + 1) * x[l];
    EXPECT_EQ(s, sum[i]);
    EXPECT_EQ(w, weighted[i]);
    EXPECT_EQ(Digits(x.end() - 6, x.end()), last[i]);
  }
}

// The shortcut from two local tokens holds at every position that is not fresh; in the strict form it does not give the
// far tokens of fresh positions.
TEST(PosGen, LeakyPositionsAreTheShortcuts) {
  int64_t right = 0, fresh = 0;
  for (int64_t start = 0; start < 17; ++start) {
    const Digits prefix = {start, 4, 9, 16};
    const Digits semi = posgen_sequence(PosGenTask::kSemiRecursive, 17, 1, 3, prefix, 200);
    const Digits strict = posgen_sequence(PosGenTask::kSemiRecursiveStrict, 17, 1, 3, prefix, 200);
    for (int64_t l = 5; l < 200; ++l) {
      if (posgen_is_fresh(PosGenTask::kSemiRecursive, 1, 3, l)) {
        ++fresh;
        right += semi[l] == (2 * semi[l - 1] - semi[l - 4] + 17) % 17;
        EXPECT_EQ(strict[l], (strict[(l - 4) / 2] + strict[l - 1] + strict[l - 2] + strict[l - 3]) % 17);
      } else {
        EXPECT_EQ(semi[l], (2 * semi[l - 1] - semi[l - 4] + 17) % 17);
        EXPECT_EQ(strict[l], (strict[l - 1] + strict[l - 2] + strict[l - 3]) % 17);
      }
    }
  }
  EXPECT_LT(right, fresh / 5);
  EXPECT_TRUE(posgen_is_fresh(PosGenTask::kCot, 1, 3, 4));
  EXPECT_FALSE(posgen_is_fresh(PosGenTask::kRecursive, 1, 3, 6));
}

// All prefixes of all splits of a small space: each prefix occurs exactly once, and another seed assigns them
// differently.
TEST(PosGen, SplitsShareNoPrefix) {
  PosGenOptions options{.modulus = 3, .far = 2, .near = 2, .length = 10};
  std::multiset<Digits> all;
  Digits first;
  for (PosGenSplit split : {PosGenSplit::kTrain, PosGenSplit::kValidation, PosGenSplit::kTest}) {
    options.split = split;
    options.count = split == PosGenSplit::kTrain ? 65 : 8;
    const PosGen posgen(options);
    EXPECT_EQ(posgen.prefixes_in_split(), options.count);
    for (int64_t i = 0; i < options.count; ++i) all.insert(posgen.prefix(i));
    if (split == PosGenSplit::kTrain) first = posgen.tokens(0);
  }
  EXPECT_EQ(all.size(), 81u);
  EXPECT_EQ(std::set<Digits>(all.begin(), all.end()).size(), 81u);

  options.split = PosGenSplit::kTrain;
  int64_t same = 0;
  for (int64_t i = 0; i < options.count; ++i) {
    PosGenOptions other = options;
    other.seed = 43;
    same += PosGen(options).prefix(i) == PosGen(other).prefix(i);
  }
  EXPECT_LT(same, options.count);
}

TEST(PosGen, ReferencePrefixesAreAscendingRows) {
  PosGenOptions options{.prefixes = PosGenPrefixes::kReference, .length = 64, .count = 10000};
  const PosGen train(options);
  EXPECT_EQ(train.prefixes_in_split(), 2380);
  EXPECT_THAT(train.prefix(0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(train.prefix(1), ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(train.prefix(2), ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(train.prefix(1000), ElementsAre(1, 11, 13, 15));
  EXPECT_THAT(train.prefix(2379), ElementsAre(13, 14, 15, 16));
  EXPECT_THAT(train.prefix(2380), ElementsAre(0, 1, 2, 3));
  options.split = PosGenSplit::kTest;
  EXPECT_THAT(PosGen(options).prefix(0), ElementsAre(1, 11, 13, 15));
}

TEST(PosGen, RefusesWhatItCannotDo) {
  const PosGenOptions bad[] = {{.modulus = 1},
                               {.near = 0},
                               {.length = 4},
                               {.modulus = 2, .length = 9, .count = 15},
                               {.modulus = 1000, .far = 10, .near = 11, .length = 64},
                               {.prefixes = PosGenPrefixes::kReference, .modulus = 3}};
  for (const PosGenOptions& options : bad) {
    try {
      PosGen posgen(options);
      ADD_FAILURE() << "accepted modulus " << options.modulus << " count " << options.count;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
    }
  }
  EXPECT_THROW(parse_posgen_task("semi"), Error);
}

TEST(PosGen, WritesJsonLines) {
  testing::TemporaryFolder folder;
  PosGenOptions options{.task = PosGenTask::kCot, .prefixes = PosGenPrefixes::kReference, .length = 6, .count = 2};
  write_posgen(options, folder / "out.jsonl");
  EXPECT_EQ(testing::read_whole(folder / "out.jsonl"),
            "{\"tokens\":[21,0,1,2,3,6,11],\"loss_mask\":[0,0,0,0,0,1,1]}\n"
            "{\"tokens\":[21,0,1,2,4,7,13],\"loss_mask\":[0,0,0,0,0,1,1]}\n");
}

}  // namespace
}  // namespace carillon
