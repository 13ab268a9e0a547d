// The tensors of a model according to its config.json.
#pragma once

#include <vector>

#include "data/formats/model_source.h"
#include "model/config.h"

namespace carillon {

// Returns names and global shapes in state-dict order. The model's weights are stored in `stored` tensors with
// `elements` numbers in total. If config.json implies more, fails with error 65 naming the key, before anything is
// allocated from its sizes.
std::vector<TensorShape> tensors_of(const ModelConfig& config, int64_t stored, int64_t elements,
                                    const std::string& path);
std::vector<TensorShape> tensors_of(const ModelConfig& config, const ModelSource& source);

// Fails with find()'s error 65 for a model whose matrices are of a type that is not read, such as F8_E4M3. They are not
// among the tensor_names() that tensors_of counts.
template <class Source>
void require_readable(const Source& source) {
  for (const char* name : {"model.embed_tokens.weight", "model.layers.0.self_attn.o_proj.weight"})
    (void)source.find(name);
}

}  // namespace carillon
