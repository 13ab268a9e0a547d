// Models whose files store several of our tensors in one, stacked by rows (phi3: q, k and v; gate and up): presents
// them as our tensors, and reverses this for the export.
#pragma once

#include <memory>
#include <vector>

#include "data/formats/model_source.h"

namespace carillon {

// Returns `source` with the parts in place of each fused tensor that it stores, or `source` itself if it stores none.
// Error 65 if a fused tensor does not have as many rows as its parts together.
std::unique_ptr<ModelSource> split_source(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused);

// The reverse: each fused tensor in place of its parts, all of which `source` must have.
std::unique_ptr<ModelSource> join_source(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused);

}  // namespace carillon
