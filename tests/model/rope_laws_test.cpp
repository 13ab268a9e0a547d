// The worked values of 2310.05209 and 2405.14591 (project reference, methods §6 and §7).
#include "model/rope_laws.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace carillon::testing {
namespace {

constexpr double kBase = 10000;

TEST(RopeLaws, CriticalDimension) {
  EXPECT_EQ(critical_dimensions(128, kBase, 2048), 82);
  EXPECT_EQ(critical_dimensions(128, kBase, 4096), 92);
  EXPECT_EQ(critical_dimensions(128, kBase, 8192), 100);
  EXPECT_EQ(critical_dimensions(128, kBase, 16384), 110);
  EXPECT_EQ(critical_dimensions(128, 2608, 4096), 106);
  EXPECT_EQ(critical_dimensions(128, 500, 4096), 128) << "never more than the head has";
}

TEST(RopeLaws, CriticalBase) {
  EXPECT_NEAR(critical_base(kBase, 4096, 8192), 26784.03, 0.01);
  EXPECT_NEAR(critical_base(kBase, 4096, 16384), 71738.436, 0.001);
  EXPECT_NEAR(critical_base(kBase, 4096, 131072), 1378414.28, 0.01);
}

TEST(RopeLaws, ExtrapolationBound) {
  EXPECT_NEAR(extrapolation_bound(128, kBase, 4096, 2e4, 4096), 7754.35, 0.01);
  EXPECT_NEAR(extrapolation_bound(128, kBase, 4096, 1e6, 4096), 129026.78, 0.01);
  EXPECT_NEAR(extrapolation_bound(128, kBase, 4096, 1e7, 4096), 675196.01, 0.01);
  EXPECT_EQ(extrapolation_bound(128, kBase, 4096, 500, 16384), 16384);
  EXPECT_NEAR(base_for_length(128, kBase, 4096, 32768), 148544, 0.5);
  EXPECT_NEAR(base_for_length(128, kBase, 4096, 1048576) / 1.84491e7, 1, 1e-5);
}

TEST(RopeLaws, SmallBases) {
  const SmallBases at4k = small_bases(4096), at16k = small_bases(16384);
  EXPECT_NEAR(at4k.quarter, 2607.594588, 1e-6);
  EXPECT_NEAR(at4k.half, 1303.797294, 1e-6);
  EXPECT_NEAR(at4k.full, 651.898647, 1e-6);
  EXPECT_NEAR(at16k.quarter, 10430.378350, 1e-6);
}

TEST(RopeLaws, BaseBound) {
  EXPECT_EQ(similarity_score(128, kBase, 0), 64);
  EXPECT_NEAR(similarity_score(128, kBase, 1), 62.0936838058, 1e-9);
  EXPECT_NEAR(similarity_score(128, kBase, 1000), 10.1777281322, 1e-9);
  EXPECT_NEAR(similarity_score(128, kBase, 4096), -3.3826139245, 1e-9);
  EXPECT_EQ(first_negative_similarity(128, kBase, 4096), 1707);
  EXPECT_EQ(first_negative_similarity(128, 1.2e4, 4096), 1554) << "a larger base can fail earlier";
  EXPECT_EQ(first_negative_similarity(128, 5e5, 20000), 18438);
  EXPECT_EQ(first_negative_similarity(128, 5e5, 18000), std::nullopt);
  // With given frequencies and, beyond the first distances, sparse sampling: it is found, possibly later.
  std::vector<double> pairs;
  for (int i = 0; i < 64; ++i) pairs.push_back(std::pow(5e5, -i / 64.0));
  EXPECT_EQ(first_negative_similarity(pairs, 20000, 20000), 18438);
  const auto sparse = first_negative_similarity(pairs, 40000, 4096);
  ASSERT_TRUE(sparse);
  EXPECT_GE(*sparse, 18438);
  EXPECT_LT(*sparse, 25000);
  EXPECT_EQ(first_negative_similarity(pairs, 18000, 4096), std::nullopt);
}

}  // namespace
}  // namespace carillon::testing
