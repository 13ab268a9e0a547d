#include "launch/session/gguf_model.h"

#include <algorithm>
#include <cmath>

#include "launch/session/gguf_rope.h"
#include "model/families/family.h"
#include "runtime/error.h"

namespace carillon {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  fail(ExitCode::kUsage, "{}, which llama.cpp does not compute, export format=gguf, export format=hf instead", what);
}

bool all_layers(const ModelConfig& config, const auto& has) {
  return std::all_of(config.layers.begin(), config.layers.end(), has);
}

// Refuses what all four architectures lack.
void require_common(const ModelConfig& config) {
  if (config.any([](const LayerSpec& layer) { return layer.attention.sinks; })) refuse("attention sinks");
  if (config.any([](const LayerSpec& layer) { return layer.residual_multiplier != 1; }) || config.logit_multiplier != 1)
    refuse("multipliers of residuals or logits");
  if (config.any([](const LayerSpec& layer) { return !layer.attention.rotates; }) &&
      config.any([](const LayerSpec& layer) { return layer.attention.rotates; }))
    refuse("layers that do not rotate (no_rope_layers)");
  for (const RopeConfig* rope : {&config.rope, config.sliding_rope ? &*config.sliding_rope : nullptr})
    if (rope != nullptr && rope->llama_4_scaling_beta != 0) refuse("llama_4_scaling_beta");
  if (2 * config.rotary_pairs() != config.head_dim) refuse("a rotation of a part of each head (partial_rotary_factor)");
}

// Fails with error 64 unless the block is that of `llama`, with `norm` of queries and keys.
void require_plain_block(const ModelConfig& config, QkNorm norm) {
  if (config.windows() != std::vector<int64_t>{0}) refuse("sliding windows");
  if (config.logit_cap != 0) refuse("a cap on logits (final_logit_softcapping)");
  if (config.embedding_multiplier != 1) refuse("a multiplier of embeddings");
  if (config.norm_weight_offset != 0) refuse("norms around weights of 0");
  for (const LayerSpec& layer : config.layers) {
    if (layer.norms != NormPlacement::kBefore) refuse("norms after attention and MLP");
    if (layer.attention.qk_norm != norm) refuse("these norms of queries and keys");
    if (layer.mlp.activation != GateActivation::kSilu) refuse("another activation than silu");
    const double scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
    if (std::abs(layer.attention.scale / scale - 1) > 1e-12) refuse("another scale of attention than 1/sqrt(head_dim)");
  }
}

void require_gemma3_block(const ModelConfig& config) {
  if (config.any(
          [](const LayerSpec& layer) { return layer.attention.qkv_bias || layer.attention.o_bias || layer.mlp.bias; }))
    refuse("biases in gemma3");
  if (config.logit_cap != 0) refuse("a cap on logits (final_logit_softcapping) in gemma3");
  if (!all_layers(config, [](const LayerSpec& layer) { return layer.mlp.activation == GateActivation::kGeluTanh; }))
    refuse("another activation than gelu_pytorch_tanh in gemma3");
  // llama.cpp decides by the number of layers: 62 is the 27B model.
  const double width = config.num_hidden_layers == 62
                           ? static_cast<double>(config.hidden_size) / static_cast<double>(config.num_attention_heads)
                           : static_cast<double>(config.head_dim);
  if (!all_layers(config, [&](const LayerSpec& layer) {
        return std::abs(layer.attention.scale * std::sqrt(width) - 1) < 1e-12;
      }))
    refuse(fmt::format("a query_pre_attn_scalar other than {} in gemma3", width));
  const std::vector<int64_t> windows = config.windows();
  const int64_t window = *std::max_element(windows.begin(), windows.end());
  for (size_t i = 0; i < config.layers.size(); ++i)
    if (config.layers[i].attention.window != (i % 6 < 5 ? window : 0) || window == 0)
      refuse("another order of windowed layers than five, then one with full attention, in gemma3");
  const RopeConfig& sliding = config.sliding_rope ? *config.sliding_rope : config.rope;
  if (sliding.type != RopeType::kDefault || sliding.resonance || sliding.cope > 0 ||
      sliding.attention_factor.value_or(1) != 1)
    refuse("a scaled rotation on windowed layers (rope.sliding_attention)");
}

class Writer {
 public:
  Writer(const ModelConfig& config, GgufModel& model) : config_(config), model_(model) {}

  void keys(const std::string& name) {
    const auto& c = config_;
    text("general.architecture", model_.architecture);
    text("general.type", "model");
    text("general.name", name);
    whole("context_length", model_.context_length);
    whole("embedding_length", c.hidden_size);
    whole("block_count", c.num_hidden_layers);
    whole("feed_forward_length", c.intermediate_size);
    whole("attention.head_count", c.num_attention_heads);
    whole("attention.head_count_kv", c.num_key_value_heads);
    whole("attention.key_length", c.head_dim);
    whole("attention.value_length", c.head_dim);
    whole("rope.dimension_count", c.head_dim);
    whole("vocab_size", c.vocab_size);
    number("attention.layer_norm_rms_epsilon", c.rms_norm_eps);
    if (model_.architecture == "gemma3") {
      const std::vector<int64_t> windows = c.windows();
      whole("attention.sliding_window", *std::max_element(windows.begin(), windows.end()));
      number("rope.freq_base_swa", (c.sliding_rope ? *c.sliding_rope : c.rope).base);
    }
  }

  void rope(const GgufRope& rope) {
    number("rope.freq_base", rope.base);
    if (!rope.type.empty()) text(own("rope.scaling.type"), rope.type);
    if (rope.factor != 1) number("rope.scaling.factor", rope.factor);
    if (rope.attention_factor != 1) number("rope.scaling.attn_factor", rope.attention_factor);
    if (rope.type == "yarn") whole("rope.scaling.original_context_length", rope.original_length);
    if (!rope.divisors.empty())
      model_.tensors.push_back(
          {"rope_freqs.weight", "", {static_cast<int64_t>(rope.divisors.size())}, true, 0, 0, rope.divisors});
  }

  void tensors() {
    const int64_t width = config_.hidden_size, mlp = config_.intermediate_size, head = config_.head_dim;
    const int64_t q = config_.num_attention_heads * head, kv = config_.num_key_value_heads * head;
    const int64_t turned = model_.architecture == "llama" ? head : 0;
    matrix("token_embd", "model.embed_tokens", config_.vocab_size, width);
    norm("output_norm", "model.norm", width);
    if (!config_.tie_word_embeddings) matrix("output", "lm_head", config_.vocab_size, width);
    for (size_t i = 0; i < config_.layers.size(); ++i) {
      const LayerSpec& layer = config_.layers[i];
      const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
      const auto linear = [&](const char* name, const char* source, int64_t rows, int64_t columns, bool bias,
                              int64_t turn = 0) {
        matrix(to + name, from + source, rows, columns, turn);
        if (bias) vector(to + name + ".bias", from + source + ".bias", rows, turn, 0);
      };
      linear("attn_q", "self_attn.q_proj", q, width, layer.attention.qkv_bias, turned);
      linear("attn_k", "self_attn.k_proj", kv, width, layer.attention.qkv_bias, turned);
      linear("attn_v", "self_attn.v_proj", kv, width, layer.attention.qkv_bias);
      linear("attn_output", "self_attn.o_proj", width, q, layer.attention.o_bias);
      linear("ffn_gate", "mlp.gate_proj", mlp, width, layer.mlp.bias);
      linear("ffn_up", "mlp.up_proj", mlp, width, layer.mlp.bias);
      linear("ffn_down", "mlp.down_proj", width, mlp, layer.mlp.bias);
      norm(to + "attn_norm", from + "input_layernorm", width);
      if (layer.attention.qk_norm == QkNorm::kPerHead) {
        norm(to + "attn_q_norm", from + "self_attn.q_norm", head);
        norm(to + "attn_k_norm", from + "self_attn.k_norm", head);
      }
      if (layer.norms == NormPlacement::kBoth) {
        norm(to + "post_attention_norm", from + "post_attention_layernorm", width);
        norm(to + "ffn_norm", from + "pre_feedforward_layernorm", width);
        norm(to + "post_ffw_norm", from + "post_feedforward_layernorm", width);
      } else {
        norm(to + "ffn_norm", from + "post_attention_layernorm", width);
      }
    }
  }

 private:
  std::string own(const char* key) const { return model_.architecture + "." + key; }
  void text(const std::string& key, const std::string& value) { model_.keys.emplace_back(key, value); }
  void whole(const char* key, int64_t value) {
    if (value > INT32_MAX) refuse(fmt::format("a {} of {}", key, value));
    model_.keys.emplace_back(own(key), static_cast<uint32_t>(value));
  }
  void number(const char* key, double value) { model_.keys.emplace_back(own(key), static_cast<float>(value)); }

  void matrix(const std::string& name, const std::string& source, int64_t rows, int64_t columns, int64_t turned = 0) {
    model_.tensors.push_back({name + ".weight", source + ".weight", {rows, columns}, false, turned, 0, {}});
  }
  void vector(const std::string& name, const std::string& source, int64_t size, int64_t turned, double offset) {
    model_.tensors.push_back({name, source, {size}, true, turned, offset, {}});
  }
  void norm(const std::string& name, const std::string& source, int64_t size) {
    vector(name + ".weight", source + ".weight", size, 0, config_.norm_weight_offset);
  }

  const ModelConfig& config_;
  GgufModel& model_;
};

}  // namespace

GgufModel gguf_model(const ModelConfig& config, const std::string& name) {
  require_common(config);
  const bool rotates = config.layers.front().attention.rotates;
  RopeConfig rope = config.rope;
  if (!rotates) rope.type = RopeType::kNone;
  GgufModel model;
  const std::string family = config.family->model_type;
  const bool normed = config.any([](const LayerSpec& layer) { return layer.attention.qk_norm == QkNorm::kPerHead; });
  GgufRope keys;
  if (family == "gemma3_text") {
    model.architecture = "gemma3";
    require_gemma3_block(config);
  } else if (normed) {
    model.architecture = "qwen3";
    require_plain_block(config, QkNorm::kPerHead);
    if (config.any([](const LayerSpec& layer) {
          return layer.attention.qkv_bias || layer.attention.o_bias || layer.mlp.bias;
        }))
      refuse("biases beside norms of queries and keys");
  } else {
    require_plain_block(config, QkNorm::kNone);
    const bool biases = all_layers(config, [](const LayerSpec& layer) {
      return layer.attention.qkv_bias && !layer.attention.o_bias && !layer.mlp.bias;
    });
    model.architecture = family == "qwen2" && biases && gguf_rope_keys(rope, config.head_dim) ? "qwen2" : "llama";
  }
  if (model.architecture == "llama") {
    keys = gguf_rope_divisors(rope, config.head_dim);
  } else if (const auto said = gguf_rope_keys(rope, config.head_dim)) {
    keys = *said;
  } else {
    refuse(fmt::format(
        "{} in {}, whose rotation is the plain one, linear, or yarn with its own betas and whole ramp ends",
        rope.resonance || rope.cope > 0 ? describe(rope) : "rope type " + name_of(rope.type), model.architecture));
  }
  // llama.cpp would apply the attention factor to windowed layers too.
  if (model.architecture == "gemma3" && keys.attention_factor != 1)
    refuse("an attention factor of its own on layers with full attention, in gemma3");
  model.context_length =
      std::max(config.max_position_embeddings,
               static_cast<int64_t>(rope.factor * static_cast<double>(rope.original_max_position_embeddings)));
  Writer writer(config, model);
  writer.keys(name);
  writer.rope(keys);
  writer.tensors();
  model.largest_deviation = gguf_rope_deviation(keys, rope, config.head_dim, model.context_length);
  return model;
}

}  // namespace carillon
