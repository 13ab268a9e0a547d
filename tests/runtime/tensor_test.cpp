#include "runtime/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/buffer.h"

namespace carillon {
namespace {

using testing::ElementsAre;

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(static_cast<float>(bfloat16(1.0f)), 1.0f);
  EXPECT_EQ(static_cast<float>(bfloat16(257.0f)), 256.0f);
  EXPECT_EQ(static_cast<float>(bfloat16(259.0f)), 260.0f);
  EXPECT_EQ(static_cast<float>(bfloat16(1e6f)), 999424.0f);
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(static_cast<float>(bfloat16(std::numeric_limits<float>::max()))));
}

TEST(BFloat16, EveryPatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 value;
    value.bits = static_cast<uint16_t>(bits);
    const float wide = value;
    if (!std::isnan(wide)) {
      EXPECT_EQ(bfloat16(wide).bits, bits);
    }
  }
}

TEST(Tensor, SlicesAndSplitsWithoutCopying) {
  std::vector<float> values(24);
  for (int i = 0; i < 24; ++i) values[i] = static_cast<float>(i);
  const Tensor x = Tensor::of(values, {4, 6});

  const Tensor column = x.slice(1, 2, 4);
  EXPECT_FALSE(column.packed());
  EXPECT_EQ(column.data<float>()[column.stride(0)], 8.0f);

  const Tensor heads = column.split_dim(1, 2);
  EXPECT_THAT(heads.shape(), ElementsAre(4, 2, 1));
  EXPECT_EQ(heads.data<float>()[3 * heads.stride(0) + heads.stride(1)], 21.0f);
  EXPECT_THAT(x.rows(1, 3).reshape({-1, 3}).shape(), ElementsAre(4, 3));
}

TEST(Tensor, RefusesAnotherTypeAndRangesOutside) {
  std::vector<float> values(6);
  const Tensor x = Tensor::of(values, {2, 3});
  EXPECT_THROW(x.data<double>(), InternalError);
  EXPECT_THROW(x.rows(1, 3), InternalError);
  EXPECT_THROW(x.slice(1, 0, 2).reshape({4}), InternalError);
}

TEST(Arena, MeasuresWhatItLaterDeals) {
  auto allocate = [](Arena& arena) {
    arena.allocate("weights", DType::kBFloat16, {3, 5});
    const size_t mark = arena.mark();
    arena.allocate("work.a", DType::kFloat32, {100});
    arena.rewind(mark);
    return arena.allocate("work.b", DType::kFloat32, {10});
  };
  Arena measuring;
  allocate(measuring);

  Arena arena(Buffer::host(measuring.peak()));
  const Tensor last = allocate(arena);

  EXPECT_EQ(arena.peak(), measuring.peak());
  EXPECT_EQ(measuring.bytes_by_name().at("weights"), 30u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(last.raw()) % Arena::kAlignment, 0u);
  EXPECT_THROW(arena.allocate("more", DType::kFloat32, {1000}), InternalError);
}

}  // namespace
}  // namespace carillon
