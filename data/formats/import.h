// Hugging Face folder -> model file: every floating-point tensor with its own type and bytes, by our names; config.json
// and the tokenizer's files as attributes of the root (attribute_of_file).
#pragma once

#include <functional>
#include <string>

#include "data/formats/hugging_face_folder.h"

namespace carillon {

struct ImportCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;
};
// Whole and on the disk, or not at all; copied from the mapped source. `progress` is called with (bytes done, bytes in
// all). The caller has checked that the tensors are those of the model (ModelSource::require). Errors: the source's, 65
// for weights that are not finite, 73 and 74.
ImportCounts import_model(const HuggingFaceFolder& folder, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress);

// Under which attribute of the root a file's content is kept: "tokenizer.json" -> "tokenizer_json". Texts are texts,
// what is none (tokenizer.model) an array of bytes.
std::string attribute_of_file(const std::string& name);

}  // namespace carillon
