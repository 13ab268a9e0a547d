// The sizes by which matmul cuts large products, which also determine how much scratch it keeps.
#pragma once

#include <cstdint>

namespace carillon::cpu {

inline constexpr int64_t kPackedBytes = int64_t{6} << 20;  // approximate size of a packed piece of the second operand
inline constexpr int64_t kPartialRows = 2048;  // rows of a bfloat16 result summed over pieces in float32 at a time

}  // namespace carillon::cpu
