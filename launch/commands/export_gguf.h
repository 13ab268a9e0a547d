// carillon export … format=gguf.
#pragma once

#include <memory>
#include <string>

#include "data/formats/model_source.h"
#include "launch/commands/program.h"
#include "model/config.h"

namespace carillon {

// Exports a model as GGUF to `path`, which has been checked, and prints a summary. `source`: with fused tensors split.
// `dtype`: f32, f16, bf16 or q8_0; empty: the type that `weights` names. Throws what gguf_model and export_gguf throw.
void export_as_gguf(Program& program, const ModelSource& source, const ModelConfig& config, const std::string& dtype,
                    const std::string& weights, const std::string& path);

}  // namespace carillon
