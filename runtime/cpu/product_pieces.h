// How matmul cuts large products, and so how much scratch it keeps.
#pragma once

#include <cstdint>

namespace carillon::cpu {

inline constexpr int64_t kPackedBytes = int64_t{6} << 20;  // of one packed piece of the second operand, about
inline constexpr int64_t kPartialRows = 2048;  // of a bfloat16 result whose sum over pieces is formed in float32

}  // namespace carillon::cpu
