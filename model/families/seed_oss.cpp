// Seed-OSS: biases on q, k and v, and a separate key for the bias of the output.
#include "model/families/family.h"

namespace carillon {

void read_seed_oss(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = fields.boolean("attention_bias", true);
  spec.attention.o_bias = fields.boolean("attention_out_bias", false);
  spec.mlp = {fields.activation("hidden_act", "silu"), fields.boolean("mlp_bias", false)};
  set_layers(config, spec);
}

}  // namespace carillon
