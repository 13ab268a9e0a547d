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
// `config`: the config.json to write. Everything is written into a folder beside `folder` first; then what belongs to a
// model that was there (weights, index, config.json, tokenizer) is removed and the new files take its place,
// config.json going first and coming last, so that who is killed between leaves no mixture that opens as a model. Other
// files of the folder stay. The caller has checked the folder (output_check.h) and the tensors (ModelSource::require).
// Errors 65 for weights that are not finite, 73, 74.
ExportCounts export_model(const ModelSource& source, const std::string& config, const std::string& folder,
                          int64_t shard_bytes = 5'000'000'000);

// The adapter's part of a source (adapted_model.h) -> PEFT folder: adapter_model.safetensors, adapter_config.json
// (`config`), and what there is of a tokenizer. `base_config`, unless empty, goes into base_config/config.json: what an
// adapter cannot carry, as another rope. The folder is written as export_model writes one.
ExportCounts export_adapter(const ModelSource& source, const std::string& config, const std::string& base_config,
                            const std::string& folder);

}  // namespace carillon
