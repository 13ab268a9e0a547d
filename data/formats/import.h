// Hugging Face folder -> model file: every tensor with its own type and bytes, config.json and the tokenizer's texts as
// attributes of the root.
#pragma once

#include <functional>
#include <string>

namespace carillon {

struct ImportCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;
};
// Whole and on the disk, or not at all; copied from the mapped source. `progress` hears (bytes done, bytes in all).
// Errors: the source's, 73 and 74.
ImportCounts import_model(const std::string& source, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress);

}  // namespace carillon
