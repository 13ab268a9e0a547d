// llama, mistral, qwen2 and qwen3. The classes of the first two ignore layer_types and no_rope_layers, and llama's also
// sliding_window; here these keys mean the same as in other families.
#include "model/families/family.h"

namespace carillon {
namespace {

// Without layer_types, all layers from max_window_layers on have a window, if `used`.
void windows_from(const ConfigFields& fields, ModelConfig& config, bool used, int64_t width, int64_t first) {
  const int64_t begin = fields.count("max_window_layers", first);
  fields.set_windows(config, used ? width : 0, [&](int64_t layer) { return used && width > 0 && layer >= begin; });
}

void every_layer_rotates(const ConfigFields& fields, ModelConfig& config) {
  fields.set_rotating(config, [](int64_t) { return true; });
}

}  // namespace

void read_llama(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.attention.sinks = fields.boolean("attention_sinks", false);
  spec.mlp = {fields.activation("hidden_act", "silu"), fields.boolean("mlp_bias", false)};
  set_layers(config, spec);
  windows_from(fields, config, fields.boolean("use_sliding_window", true), fields.window(0), 0);
  every_layer_rotates(fields, config);
}

void read_mistral(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
  windows_from(fields, config, fields.boolean("use_sliding_window", true), fields.window(4096), 0);
  every_layer_rotates(fields, config);
}

void read_qwen2(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = true;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
  windows_from(fields, config, fields.boolean("use_sliding_window", false), fields.window(4096), 28);
  every_layer_rotates(fields, config);
}

void read_qwen3(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.mlp.activation = fields.activation("hidden_act", "silu");
  set_layers(config, spec);
  windows_from(fields, config, fields.boolean("use_sliding_window", false), fields.window(4096), 28);
  every_layer_rotates(fields, config);
}

}  // namespace carillon
