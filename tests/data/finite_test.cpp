#include "data/checkpoint/finite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <vector>

#include "runtime/error.h"

namespace carillon::testing {
namespace {

template <class T>
void check_type(StoredType type, const std::vector<T>& finite, const std::vector<T>& lost) {
  std::vector<T> values;
  for (size_t i = 0; i < 9001; ++i) values.push_back(finite[i % finite.size()]);
  EXPECT_EQ(first_non_finite(values.data(), 9001, type), -1);
  for (const T bad : lost)
    for (const size_t at : {size_t{0}, size_t{4095}, size_t{4096}, size_t{9000}}) {
      std::vector<T> with = values;
      with[at] = bad;
      EXPECT_EQ(first_non_finite(with.data(), 9001, type), static_cast<int64_t>(at));
      EXPECT_EQ(first_non_finite(with.data(), static_cast<int64_t>(at), type), -1);
    }
}

TEST(Finite, EveryTypeByItsBits) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  check_type<double>(StoredType::kFloat64, {0.0, -1.5, 1e308, -5e-324}, {inf, -inf, nan, -nan});
  check_type<float>(StoredType::kFloat32, {0.0f, -1.5f, 3e38f, 1e-45f},
                    {static_cast<float>(inf), -static_cast<float>(inf), static_cast<float>(nan)});
  check_type<uint16_t>(StoredType::kFloat16, {0, 0x7BFF, 0xFBFF, 1}, {0x7C00, 0xFC00, 0x7C01, 0xFE00});
  check_type<uint16_t>(StoredType::kBFloat16, {0, 0x7F7F, 0xFF7F, 0x7C00}, {0x7F80, 0xFF80, 0x7F81, 0xFFC0});
  const std::vector<int64_t> all_ones(3, -1);
  EXPECT_EQ(first_non_finite(all_ones.data(), 3, StoredType::kInt64), -1);
}

TEST(Finite, NamesTheGlobalIndex) {
  std::vector<float> part(6, 1.0f);
  part[4] = std::numeric_limits<float>::infinity();
  const Rectangle rectangle{{10, 7}, {5, 3}, {2, 3}};
  try {
    refuse_non_finite("a.weight", rectangle, part.data(), StoredType::kFloat32, "m.h5");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadInput);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("tensor a.weight holds NaN or infinity at [6, 4], m.h5"));
  }
}

}  // namespace
}  // namespace carillon::testing
