// Describes adapters of fused layers (those that a model's files store as one) for data/formats/fused_adapter.h.
#pragma once

#include <utility>
#include <vector>

#include "data/formats/fused_adapter.h"
#include "model/config.h"

namespace carillon {

// Every layer that this model family stores fused, with its parts' names and rows: for split_adapter.
std::vector<FusedAdapter> possible_fused_adapters(const ModelConfig& config);

// The model's adapter in PEFT's form: each fused layer replaces its parts and has the sum of their ranks. If the parts'
// scales differ, the fused layer takes the largest scale, and the B of each other part is multiplied by its scale over
// the largest (FusedAdapter::Part::factor).
std::pair<std::vector<FusedAdapter>, AdapterConfig> fuse_adapters(const ModelConfig& config);

}  // namespace carillon
