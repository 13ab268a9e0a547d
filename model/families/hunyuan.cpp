// Hunyuan's dense models: q/k norms per head after the rotation; their "dynamic" rotation is a fixed change of base
// (rope_config.h, alpha).
#include "model/families/family.h"

namespace carillon {

void read_hunyuan(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.attention.qk_norm = QkNorm::kPerHeadAfterRotation;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
}

// Its class needs head_dim (always written) and, with alpha, a factor, which it does not use.
void write_hunyuan(const ModelConfig&, Json& json) {
  Json& rope = json["rope_parameters"];
  if (rope.value("rope_type", "default") == "dynamic" && rope.contains("alpha") && !rope.contains("factor"))
    rope["factor"] = 1.0;
}

}  // namespace carillon
