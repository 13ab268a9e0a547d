// Imports a Hugging Face folder into a model file: every floating-point tensor with its own type and bytes, under our
// names; config.json and the tokenizer's files as attributes of the root (attribute_of_file).
#pragma once

#include <functional>
#include <string>

#include "data/formats/hugging_face_folder.h"

namespace carillon {

struct ImportCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;
};
// Writes the file completely and durably, or not at all, by copying from the mapped source. `progress` is called with
// (bytes done, total bytes). The caller must have checked that the tensors are those of the model
// (ModelSource::require). Errors: the source's, 65 for weights that are not finite, 73 and 74.
ImportCounts import_model(const HuggingFaceFolder& folder, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress);

// The attribute of the root that holds a file's content: "tokenizer.json" -> "tokenizer_json". Text files are stored as
// texts, others (tokenizer.model) as an array of bytes.
std::string attribute_of_file(const std::string& name);

}  // namespace carillon
