// Intel AMX on processors that lack it: the tiles are emulated (tests/amx_emulation). Linked with the tests of
// attention and of every op, which then also run on "amx"; this file tests the emulation itself and its selection.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/backend.h"
#include "tests/amx_emulation/runtime/cpu/kernels/amx_tile.h"
#include "tests/support/random_tensor.h"

namespace carillon::testing {
namespace {

namespace amx_tile = cpu::amx_tile;

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
uint32_t pair_of(float low, float high) { return bits_of(low) >> 16 | (bits_of(high) & 0xffff0000); }

struct TileValues {
  uint32_t word[amx_tile::kRows][amx_tile::kWords] = {};
};

float first_sum(const TileValues& left, const TileValues& right, float before) {
  TileValues sums;
  sums.word[3][5] = bits_of(before);
  amx_tile::configure();
  amx_tile::load<0>(sums.word, sizeof sums.word[0]);
  amx_tile::load<4>(left.word, sizeof left.word[0]);
  amx_tile::load<5>(right.word, sizeof right.word[0]);
  amx_tile::add_products<0, 4, 5>();
  amx_tile::save<0>(sums.word, sizeof sums.word[0]);
  amx_tile::release();
  float result;
  std::memcpy(&result, &sums.word[3][5], sizeof result);
  return result;
}

TEST(EmulatedTiles, RowsMeetColumnsOfPairs) {
  TileValues left, right;
  left.word[3][2] = pair_of(2, 3);
  left.word[3][15] = pair_of(0.5f, -1);
  left.word[4][2] = pair_of(100, 100);  // another row
  right.word[2][5] = pair_of(5, 7);
  right.word[15][5] = pair_of(4, 1);
  right.word[2][6] = pair_of(100, 100);  // another column

  EXPECT_EQ(first_sum(left, right, 1.25f), 1.25f + 2 * 5 + 3 * 7 + 0.5f * 4 - 1);
}

TEST(EmulatedTiles, LowAndHighElementsAreSummedApart) {
  TileValues left, right;
  // 2^24 + 1 rounds to 2^24; the ones of the two high elements are added to each other first.
  left.word[3][0] = pair_of(16777216, 1);
  left.word[3][1] = pair_of(0, 1);
  right.word[0][5] = right.word[1][5] = pair_of(1, 1);

  EXPECT_EQ(first_sum(left, right, 0), 16777218.0f);
}

TEST(EmulatedTiles, DenormalsAreZero) {
  TileValues left, right;
  left.word[3][0] = 1;  // the smallest bfloat16
  right.word[0][5] = pair_of(1e30f, 0);

  EXPECT_EQ(first_sum(left, right, 0), 0.0f);
}

TEST(EmulatedTilesDeathTest, AThreadConfiguresThemFirst) { EXPECT_DEATH(amx_tile::zero<0>(), "has not configured"); }

// The kernels around the tiles need AVX512-BF16; without it the tests of attention skip "amx" silently.
TEST(EmulatedAmx, IsTheBestSetWhereItsOtherInstructionsAre) {
  const DeviceDescription cpu = make_backend({.device = "cpu"})->describe();
  if (std::find(cpu.available.begin(), cpu.available.end(), "avx512_bf16") == cpu.available.end())
    GTEST_SKIP() << "this processor lacks AVX512-BF16";
  EXPECT_EQ(cpu.available.front(), "amx");
  EXPECT_TRUE(cpu.bfloat16_native);
}

TEST(EmulatedAmx, GivesItsTilesBack) {
  const auto cpu = make_backend({.device = "cpu", .threads = 1});
  if (cpu->describe().instruction_set != "amx") GTEST_SKIP() << "this processor lacks AVX512-BF16";
  const RandomTensor q(DType::kBFloat16, {1, 1, 1, 16}, 1), k(DType::kBFloat16, {1, 1, 1, 16}, 2);
  const RandomTensor wide(DType::kFloat32, {1, 1, 1, 16}, 3), number(DType::kFloat32, {1, 1, 1}, 4),
      other(DType::kFloat32, {1, 1, 1}, 5);
  std::vector<int64_t> zero{0};
  const AttentionMask mask{Tensor::of(zero, {1}), Tensor::of(zero, {1, 1}), Tensor::of(zero, {1})};

  cpu->attention_begin({wide, number, other});
  cpu->attention_forward({wide, number, other}, q, k, k, mask, 1);
  EXPECT_FALSE(amx_tile::tiles.configured);
  cpu->attention_backward(wide, wide, wide, q, k, k, q, q, number, other, mask, 1);
  EXPECT_FALSE(amx_tile::tiles.configured);
  bool used = false;
  for (const auto& row : amx_tile::tiles.word[0])
    for (const uint32_t word : row) used = used || word != 0;
  EXPECT_TRUE(used);
}

}  // namespace
}  // namespace carillon::testing
