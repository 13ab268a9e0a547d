// Adapters of layers that the model's files hold as one: what data/formats/fused_adapter.h wants to know of them.
#pragma once

#include <utility>
#include <vector>

#include "data/formats/fused_adapter.h"
#include "model/config.h"

namespace carillon {

// Every layer of the family that is held as one, its parts by name and rows: for split_adapter.
std::vector<FusedAdapter> possible_fused_adapters(const ModelConfig& config);

// The model's adapter as PEFT has it: wholes in place of their parts, with the sum of their ranks. Where the parts'
// scales differ the whole has the largest, and the others' B are multiplied (FusedAdapter::Part::factor).
std::pair<std::vector<FusedAdapter>, AdapterConfig> fuse_adapters(const ModelConfig& config);

}  // namespace carillon
