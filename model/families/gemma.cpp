// Gemma (2403.08295): llama's block with norm weights centred on 0, a gelu gate and embeddings multiplied by √C.
#include <cmath>

#include "model/families/family.h"

namespace carillon {

void read_gemma(const ConfigFields& fields, ModelConfig& config) {
  if (fields.boolean("use_bidirectional_attention", false))
    fields.wrong("use_bidirectional_attention", "only causal attention is supported");
  LayerSpec spec;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  // The first published files say gelu but mean its tanh formula, as their class computes it.
  spec.mlp.activation = fields.text("hidden_act") == "gelu" ? GateActivation::kGeluTanh
                                                            : fields.activation("hidden_act", "gelu_pytorch_tanh");
  set_layers(config, spec);
  config.norm_weight_offset = 1;
  config.embedding_multiplier = std::sqrt(static_cast<double>(config.hidden_size));
}

}  // namespace carillon
