// The tensors of a learned rotation (model/clex.h) in a model's files.
#pragma once

#include <memory>

#include "data/formats/model_source.h"
#include "model/clex.h"

namespace carillon {

bool has_learned_rotation(const ModelSource& source);

// Fails with error 65 if a tensor is missing or has another shape. `pairs`: of the model's heads.
std::shared_ptr<const ClexWeights> read_learned_rotation(const ModelSource& source, const RopeConfig& rope,
                                                         int64_t pairs);

// Hides those tensors of `source`, for programs that have no use for them.
std::unique_ptr<ModelSource> without_learned_rotation(std::unique_ptr<ModelSource> source);

}  // namespace carillon
