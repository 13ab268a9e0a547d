// Phi-3 and Phi-4: fused projections, rotation of part of the head, longrope.
#include "model/families/family.h"

namespace carillon {

void read_phi3(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
  const int64_t width = fields.window(0);
  fields.set_windows(config, width, [&](int64_t) { return width > 0; });
}

// Its class supports only these two rotations, and reads the original length from the top level, 4096 if it is absent.
void write_phi3(const ModelConfig& config, Json& json) {
  const std::string type = json["rope_parameters"].value("rope_type", "default");
  if (type != "default" && type != "longrope")
    fail(ExitCode::kUsage, "rope type {} has no form that transformers' Phi3 reads, export, use default or longrope",
         type);
  json["original_max_position_embeddings"] = config.rope.original_max_position_embeddings;
}

}  // namespace carillon
