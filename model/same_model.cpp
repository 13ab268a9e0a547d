#include "model/same_model.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "model/rope.h"

namespace carillon {
namespace {

bool near(double u, double v) { return std::abs(u - v) <= 1e-9 * std::max(std::abs(u), std::abs(v)); }

auto values_of(const LayerSpec& layer) {
  const AttentionSpec& attention = layer.attention;
  return std::tuple(attention.window, attention.rotates, attention.scale, attention.qk_norm, attention.qkv_bias,
                    attention.o_bias, attention.sinks, layer.mlp.activation, layer.mlp.bias, layer.norms,
                    layer.residual_multiplier);
}

auto values_of(const ModelConfig& model) {
  return std::tuple(model.family, model.vocab_size, model.hidden_size, model.intermediate_size, model.num_hidden_layers,
                    model.num_attention_heads, model.num_key_value_heads, model.head_dim, model.max_position_embeddings,
                    model.rms_norm_eps, model.initializer_range, model.tie_word_embeddings, model.norm_weight_offset,
                    model.embedding_multiplier, model.logit_multiplier, model.logit_cap, model.eos_token_id);
}

}  // namespace

bool same_rotation(RopeConfig a, RopeConfig b, int64_t head_dim) {
  a.length.reset();
  b.length.reset();
  if (rotary_pairs(a, head_dim) != rotary_pairs(b, head_dim)) return false;
  for (const double stretch : {1.0, 2.0, 8.0}) {
    const double reach = stretch * static_cast<double>(a.original_max_position_embeddings);
    const auto length = static_cast<int64_t>(std::min(reach, 0x1p62));
    const RopeTable x = make_rope_table(a, head_dim, length), y = make_rope_table(b, head_dim, length);
    if (!near(x.attention_factor, y.attention_factor)) return false;
    for (size_t i = 0; i < x.inverse_frequency.size(); ++i)
      if (!near(x.inverse_frequency[i], y.inverse_frequency[i])) return false;
  }
  return true;
}

namespace {

// Settings that the frequencies do not show.
auto settings_of(const RopeConfig& rope) {
  return std::tuple(rope.type, rope.resonance, rope.factor, rope.original_max_position_embeddings, rope.length,
                    rope.mixed_windows, rope.llama_4_scaling_beta, rope.param_factor, rope.time_step, rope.activation);
}

bool same_rope(const RopeConfig& a, const RopeConfig& b, int64_t head_dim) {
  return settings_of(a) == settings_of(b) && same_rotation(a, b, head_dim);
}

}  // namespace

bool same_model(const ModelConfig& a, const ModelConfig& b) {
  return values_of(a) == values_of(b) &&
         std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const LayerSpec& x, const LayerSpec& y) { return values_of(x) == values_of(y); }) &&
         same_rope(a.rope, b.rope, a.head_dim) && a.sliding_rope.has_value() == b.sliding_rope.has_value() &&
         (!a.sliding_rope || same_rope(*a.sliding_rope, *b.sliding_rope, a.head_dim));
}

}  // namespace carillon
