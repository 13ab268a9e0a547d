// What a model's files hold of a rotation that was learned (model/clex.h).
#pragma once

#include <memory>

#include "data/formats/model_source.h"
#include "model/clex.h"

namespace carillon {

bool has_learned_rotation(const ModelSource& source);

// Error 65 where a tensor is missing or of another shape. `pairs`: of the model's heads.
std::shared_ptr<const ClexWeights> read_learned_rotation(const ModelSource& source, const RopeConfig& rope,
                                                         int64_t pairs);

// `source` without those tensors, for programs that have no use for them.
std::unique_ptr<ModelSource> without_learned_rotation(std::unique_ptr<ModelSource> source);

}  // namespace carillon
