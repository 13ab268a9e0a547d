// A model's geometry, by the meaning of Hugging Face's config.json: text in, struct out. What Carillon does not compute
// exactly is refused by name, never ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/rope_config.h"

namespace carillon {

enum class Architecture { kLlama, kMistral, kQwen2, kQwen3 };

// Fields are named as in config.json; the last five follow from the architecture.
struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t vocab_size = 0;           // V
  int64_t hidden_size = 0;          // C
  int64_t intermediate_size = 0;    // F
  int64_t num_hidden_layers = 0;    // L
  int64_t num_attention_heads = 0;  // NH
  int64_t num_key_value_heads = 0;  // NKV, divides NH
  int64_t head_dim = 0;             // HD
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  std::vector<int64_t> eos_token_id;  // may be empty

  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;        // RMSNorm over each head of q and k, before the rotation
  int64_t sliding_window = 0;  // token i sees j with 0 <= i - j < window; 0: all before it

  RopeConfig rope;
  Json source;  // the config.json it was read from, with keys that mean nothing here

  int64_t rotary_pairs() const;     // R
  int64_t parameter_count() const;  // a tied head counts once
};

// Reads a config.json (v4 or v5). `where` names the file in messages; errors carry `code`: 65 for a file, 64 for the
// geometry in a run's configuration. An unsupported architecture is always 65.
ModelConfig parse_model_config(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput);

// The config.json of this geometry with its rope: all keys of the source stay, rotary settings are written in v5 form.
std::string write_model_config(const ModelConfig& config);

// Error 64 naming the nearest values that work, when query heads do not divide over `tensor` ranks, or key/value heads
// neither divide nor are divided by it.
void require_tensor_parallel(const ModelConfig& config, int64_t tensor);

}  // namespace carillon
