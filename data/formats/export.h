// A model source -> Hugging Face folder: safetensors (one file, or several with an index above 5 GB), config.json and
// what the source has of a tokenizer. Every tensor keeps its type and bytes.
#pragma once

#include <string>

#include "data/formats/model_source.h"

namespace carillon {

struct ExportCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;
  int64_t files = 0;
};
// `config`: the config.json to write. The folder is made; files in it are replaced one by one, each whole. Errors
// 73, 74.
ExportCounts export_model(const ModelSource& source, const std::string& config, const std::string& folder,
                          int64_t shard_bytes = 5'000'000'000);

}  // namespace carillon
