// OLMo 2 (2501.00656) and 3: norms only after attention and MLP, q/k norms over the whole projection. OLMo 3 has
// windows on three layers of four, and scales only the rotation of the others.
#include "model/families/family.h"

namespace carillon {

void read_olmo2(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.norms = NormPlacement::kAfter;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.attention.qk_norm = QkNorm::kProjection;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
}

void read_olmo3(const ConfigFields& fields, ModelConfig& config) {
  read_olmo2(fields, config);
  const int64_t width = fields.window(4096);
  fields.set_windows(config, width, [&](int64_t layer) { return width > 0 && (layer + 1) % 4 != 0; });
}

}  // namespace carillon
