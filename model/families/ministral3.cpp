// Ministral 3: YaRN, and a query temperature that grows with the position, as in Llama 4.
#include "model/families/family.h"

namespace carillon {

void read_ministral3(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  const Json& rope = config.rope.settings;
  if (config.rope.llama_4_scaling_beta != 0 && !rope.contains("original_max_position_embeddings"))
    fail(fields.code(), "llama_4_scaling_beta needs original_max_position_embeddings, in {}, add it to rope_parameters",
         fields.where());
  set_layers(config, spec);
  const int64_t width = fields.window(0);
  fields.set_windows(config, width, [&](int64_t) { return width > 0; });
}

// Its class uses both keys whatever the rotation.
void write_ministral3(const ModelConfig& config, Json& json) {
  Json& rope = json["rope_parameters"];
  rope["llama_4_scaling_beta"] = config.rope.llama_4_scaling_beta;
  rope["original_max_position_embeddings"] = config.rope.original_max_position_embeddings;
}

}  // namespace carillon
