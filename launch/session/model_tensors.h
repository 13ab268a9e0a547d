// Which tensors a model has, by its config.json.
#pragma once

#include <vector>

#include "data/formats/model_source.h"
#include "model/config.h"

namespace carillon {

// Names and global shapes, in the order of a state dict, for a model whose weights lie in `stored` tensors of together
// `elements` numbers: a config.json that says more is error 65 naming the key, before anything is made of its size.
std::vector<TensorShape> tensors_of(const ModelConfig& config, int64_t stored, int64_t elements,
                                    const std::string& path);
std::vector<TensorShape> tensors_of(const ModelConfig& config, const ModelSource& source);

}  // namespace carillon
