// Exports a model source to a Hugging Face folder: safetensors (one file, or several with an index above 5 GB),
// config.json and the source's tokenizer files. Every tensor keeps its type and bytes.
#pragma once

#include <string>

#include "data/formats/model_source.h"

namespace carillon {

struct ExportCounts {
  int64_t tensors = 0;
  int64_t bytes = 0;
  int64_t files = 0;
};
// `config` is the config.json to write. Everything is first written into a temporary folder next to `folder`. Then the
// files of a former model (weights, index, config.json, tokenizer) are removed and the new files take their place.
// config.json is removed first and written last, so that an interrupted export leaves no mixture that opens as a model.
// Other files of the folder stay. The caller must have checked the folder (output_check.h) and the tensors
// (ModelSource::require). Errors 65 for weights that are not finite, 73, 74.
ExportCounts export_model(const ModelSource& source, const std::string& config, const std::string& folder,
                          int64_t shard_bytes = 5'000'000'000);

// Exports the adapter of a source (adapted_model.h) to a PEFT folder: adapter_model.safetensors, adapter_config.json
// (`config`), and the tokenizer files if there are any. A non-empty `base_config` is written to
// base_config/config.json; it holds what an adapter cannot express, such as a changed rope. Writes the folder as
// export_model does.
ExportCounts export_adapter(const ModelSource& source, const std::string& config, const std::string& base_config,
                            const std::string& folder);

}  // namespace carillon
