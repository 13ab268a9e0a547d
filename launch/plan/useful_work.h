// The useful work per token, independent of the implementation: the basis of utilisation.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace carillon {

// Parameters in products: matrices, excluding the embedding unless it is also the head.
int64_t product_parameters(const ModelConfig& model);
// The frozen ones among them, an adapter's base: no product computes their gradient.
int64_t frozen_product_parameters(const ModelConfig& model);

// Pairs of a sequence of `length` tokens as counted in the formulas: S²/2, or with a window S·W - W²/2.
double useful_pairs(int64_t length, int64_t window);

// 6·N_mm (4 for frozen parameters) + 12·NH·HD·L·pairs/S.
double useful_flops_per_token(const ModelConfig& model, int64_t length);

}  // namespace carillon
