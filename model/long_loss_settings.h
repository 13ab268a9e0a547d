// What LongCE weighs tokens by; model/long_loss.h has its definition.
#pragma once

#include <cstdint>

namespace carillon {

struct LongLossSettings {
  int64_t context = 4096;     // K: tokens the short context has at least, before a token that is weighed
  int64_t stride = 1024;      // and at most so many more: tokens that share a short context
  double largest_weight = 5;  // γ
};

}  // namespace carillon
