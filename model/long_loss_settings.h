// Parameters of LongCE's token weights; model/long_loss.h has the definition.
#pragma once

#include <cstdint>

namespace carillon {

struct LongLossSettings {
  int64_t context = 4096;     // K: minimum number of tokens in a short context, before the tokens it is used for
  int64_t stride = 1024;      // number of tokens that share a short context
  double largest_weight = 5;  // γ
};

}  // namespace carillon
