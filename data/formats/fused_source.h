// Models whose files hold several of our tensors in one, row after row (phi3: q, k and v; gate and up): as a source of
// our tensors, and back, for the export.
#pragma once

#include <memory>
#include <vector>

#include "data/formats/model_source.h"

namespace carillon {

// `source` with the parts in place of each fused tensor that it stores; itself where it stores none of them. Error 65
// where a fused tensor has another number of rows than its parts together.
std::unique_ptr<ModelSource> split_source(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused);

// The way back: each fused tensor in place of its parts, which `source` must have.
std::unique_ptr<ModelSource> join_source(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused);

}  // namespace carillon
