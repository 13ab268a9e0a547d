// Granite: llama's block with four multipliers.
#include "model/families/family.h"

namespace carillon {

void read_granite(const ConfigFields& fields, ModelConfig& config) {
  LayerSpec spec;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.mlp = {fields.activation("hidden_act", "silu"), fields.boolean("mlp_bias", false)};
  spec.residual_multiplier = fields.number("residual_multiplier", 1);
  spec.attention.scale = fields.number("attention_multiplier", 1);
  if (spec.attention.scale == 0) fields.wrong("attention_multiplier", "give a number above 0");
  set_layers(config, spec);
  config.embedding_multiplier = fields.number("embedding_multiplier", 1);
  const double scaling = fields.number("logits_scaling", 1);
  if (scaling == 0) fields.wrong("logits_scaling", "give a number above 0");
  config.logit_multiplier = 1 / scaling;
}

}  // namespace carillon
