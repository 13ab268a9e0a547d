// Code World Model: llama's block with windows on three layers of four; the first of each four has none.
#include "model/families/family.h"

namespace carillon {

void read_cwm(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.mlp = {fields.activation("hidden_act", "silu"), fields.boolean("mlp_bias", false)};
  set_layers(config, spec);
  const int64_t width = fields.window(8192);
  fields.set_windows(config, width, [&](int64_t layer) { return width > 0 && layer % 4 != 0; });
}

}  // namespace carillon
