// Gemma 3's text model (2503.19786): windows on five layers of six, which have a separate rotation; norms before and
// after both branches, with weights centred on 0; embeddings multiplied by √C.
#include <cmath>

#include "model/families/family.h"

namespace carillon {

void read_gemma3(const ConfigFields& fields, ModelConfig& config) {
  if (fields.has("attn_logit_softcapping"))
    fields.wrong("attn_logit_softcapping", "a cap on attention's scores is not supported, use a model without it");
  if (fields.boolean("use_bidirectional_attention", false))
    fields.wrong("use_bidirectional_attention", "only causal attention is supported");
  LayerSpec spec;
  spec.norms = NormPlacement::kBoth;
  spec.attention.qkv_bias = spec.attention.o_bias = fields.boolean("attention_bias", false);
  spec.attention.qk_norm = QkNorm::kPerHead;
  const double scalar = fields.number("query_pre_attn_scalar", 256);
  if (scalar == 0) fields.wrong("query_pre_attn_scalar", "give a number above 0");
  spec.attention.scale = 1 / std::sqrt(scalar);
  spec.mlp.activation = fields.activation("hidden_activation", "gelu_pytorch_tanh");
  set_layers(config, spec);
  config.norm_weight_offset = 1;
  config.embedding_multiplier = std::sqrt(static_cast<double>(config.hidden_size));
  config.logit_cap = fields.number("final_logit_softcapping", 0);
  const char* const key = fields.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const int64_t pattern = fields.size(key, 6), width = fields.window(4096);
  fields.set_windows(config, width, [&](int64_t layer) { return width > 0 && (layer + 1) % pattern != 0; });
}

}  // namespace carillon
