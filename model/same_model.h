// Whether two settings mean the same model: a default that is written out changes nothing.
#pragma once

#include "model/config.h"

namespace carillon {

// Compares frequencies and attention factor, at lengths on both sides of the original one.
bool same_rotation(RopeConfig a, RopeConfig b, int64_t head_dim);

// Compares everything that the tensors and what is computed depend on, not the keys that said so. Adapters are left
// out.
bool same_model(const ModelConfig& a, const ModelConfig& b);

}  // namespace carillon
