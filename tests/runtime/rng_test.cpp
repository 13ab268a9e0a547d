#include "runtime/rng.h"

#include <gtest/gtest.h>

namespace carillon {
namespace {

// Known answers published with the generator (Random123, kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Random, NormalHasItsMoments) {
  const uint64_t stream = stream_of("model.embed_tokens.weight");
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const double x = random_normal(42, stream, i);
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.01);
  EXPECT_NEAR(squares / kCount, 1, 0.02);
  EXPECT_NEAR(fourth / kCount, 3, 0.1);
}

TEST(Random, BelowCoversItsRangeEvenly) {
  int count[7] = {};
  for (int i = 0; i < 70000; ++i) ++count[random_below(7, 1, 2, i)];
  for (int c : count) EXPECT_NEAR(c, 10000, 400);
}

TEST(Random, StreamsAndSeedsDiffer) {
  EXPECT_NE(random_bits(1, 0, 0), random_bits(2, 0, 0));
  EXPECT_NE(random_bits(1, 0, 0), random_bits(1, 1, 0));
  EXPECT_NE(stream_of("a"), stream_of("b"));
}

}  // namespace
}  // namespace carillon
