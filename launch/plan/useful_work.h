// What a token costs whoever computes it: the measure that utilisation is counted in.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace carillon {

// Parameters that stand in products: matrices, but not the embedding unless it is the head too.
int64_t product_parameters(const ModelConfig& model);
// Those of them that are frozen, an adapter's base: no product forms their gradient.
int64_t frozen_product_parameters(const ModelConfig& model);

// All pairs of a sequence of `length` tokens, as the formulas count them: S²/2, with a window S·W - W²/2.
double useful_pairs(int64_t length, int64_t window);

// 6·N_mm, of frozen ones 4, + 12·NH·HD·L·pairs/S.
double useful_flops_per_token(const ModelConfig& model, int64_t length);

}  // namespace carillon
