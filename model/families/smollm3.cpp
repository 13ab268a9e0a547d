// SmolLM3: every fourth layer does not rotate; only these layers may have a window.
#include "model/families/family.h"

namespace carillon {

void read_smollm3(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.mlp = {fields.activation("hidden_act", "silu"), fields.boolean("mlp_bias", false)};
  set_layers(config, spec);
  const int64_t interval = fields.size("no_rope_layer_interval", 4);
  fields.set_rotating(config, [&](int64_t layer) { return (layer + 1) % interval != 0; });
  const int64_t width = fields.boolean("use_sliding_window", false) ? fields.window(0) : 0;
  fields.set_windows(config, width, [&](int64_t layer) {
    return width > 0 && !config.layers[static_cast<size_t>(layer)].attention.rotates;
  });
}

}  // namespace carillon
