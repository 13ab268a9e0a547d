// carillon export … format=gguf.
#pragma once

#include <memory>
#include <string>

#include "data/formats/model_source.h"
#include "launch/commands/program.h"
#include "model/config.h"

namespace carillon {

// `source`: with fused tensors split. `dtype`: f32, f16, bf16 or q8_0; empty: the type of the weights, as `weights`
// names it. Writes `path`, which has been checked, and prints what it did. Errors as gguf_model and export_gguf.
void export_as_gguf(Program& program, const ModelSource& source, const ModelConfig& config, const std::string& dtype,
                    const std::string& weights, const std::string& path);

}  // namespace carillon
