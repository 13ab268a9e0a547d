// A model's geometry, by the meaning of Hugging Face's config.json: text in, struct out. What Carillon does not compute
// exactly is refused by name, never ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/adapter_config.h"
#include "model/layer_spec.h"
#include "model/rope_config.h"
#include "parallel/shard.h"

namespace carillon {

struct Family;

// How a model rotates: layers with full attention, and those with a window where theirs is another.
struct ModelRope {
  RopeConfig rope;
  std::optional<RopeConfig> sliding_rope;

  bool follows_length() const { return rope.follows_length() || (sliding_rope && sliding_rope->follows_length()); }
};

// Fields are named as in config.json; `layers` and the multipliers follow from the family.
struct ModelConfig : ModelRope {
  const Family* family = nullptr;
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

  std::vector<LayerSpec> layers;    // [L]
  double norm_weight_offset = 0;    // what is added to the weight of every norm: 1 where files hold it around 0
  double embedding_multiplier = 1;  // of the embedding's rows
  double logit_multiplier = 1;      // of the last norm's output, and so of the logits
  double logit_cap = 0;             // logits = cap · tanh(logits / cap); 0: none

  AdapterConfig adapter;  // low-rank adapters beside its layers, whose own weights are then frozen; may be none

  Json source;                       // the config.json it was read from, with keys that mean nothing here
  std::vector<std::string> remarks;  // what the person should know of it: one line each

  int64_t rotary_pairs() const;          // R
  int64_t parameter_count() const;       // a tied head counts once
  std::vector<int64_t> windows() const;  // the distinct ones, in the order of the layers; 0: none
  bool any(bool (*has)(const LayerSpec&)) const;
};

// Reads a config.json (v4 or v5), or the text model of a wrapper's (`text_config`). `where` names the file in messages;
// errors carry `code`: 65 for a file, 64 for the geometry in a run's configuration. An unsupported architecture is
// always 65.
ModelConfig parse_model_config(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput);

// The config.json of this geometry with its rope: all keys of the source stay, rotary settings are written in v5 form.
std::string write_model_config(const ModelConfig& config);

// `overrides` (the keys of `rope:`) merged key by key over `config`'s rotations. They touch every layer that rotates;
// in families whose windowed layers have a rotation of their own (gemma3_text, olmo3) those with full attention only.
// `overrides.sliding_attention` is merged over the windowed layers' alone. Errors are 64.
ModelRope merge_model_rope(const ModelConfig& config, const Json& overrides, const std::string& where);

// Error 64 when `asked` turns another number of pairs than the model's own rotations: memory is allocated for those.
void require_same_pairs(const ModelRope& asked, const ModelConfig& model);

// Error 64 naming the nearest values that work, when query heads do not divide over `tensor` ranks, or key/value heads
// neither divide nor are divided by it.
void require_tensor_parallel(const ModelConfig& config, int64_t tensor);

// Tensors of the family's files that hold several of our parameters, row after row (phi3: q, k and v; gate and up).
std::vector<FusedTensor> fused_tensors(const ModelConfig& config);

}  // namespace carillon
