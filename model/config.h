// A model's geometry, as defined by Hugging Face's config.json: text in, struct out. Anything Carillon does not compute
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

// The rotations of a model: that of layers with full attention, and that of windowed layers if it differs.
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
  double norm_weight_offset = 0;    // added to the weight of every norm: 1 if files store it centred on 0
  double embedding_multiplier = 1;  // of the embedding's rows
  double logit_multiplier = 1;      // of the last norm's output, and so of the logits
  double logit_cap = 0;             // logits = cap · tanh(logits / cap); 0: none

  AdapterConfig adapter;  // low-rank adapters of the layers, whose own weights are then frozen; may be empty

  Json source;                       // the config.json it was read from, including keys that mean nothing here
  std::vector<std::string> remarks;  // what the user should know about it: one line each

  int64_t rotary_pairs() const;          // R
  int64_t parameter_count() const;       // a tied head counts once
  std::vector<int64_t> windows() const;  // the distinct ones, in the order of the layers; 0: no window
  bool any(bool (*has)(const LayerSpec&)) const;
};

// Reads a config.json (v4 or v5), or the text model in a wrapper's config.json (`text_config`). `where` names the file
// in messages; errors carry `code`: 65 for a file, 64 for the geometry in a run's configuration. An unsupported
// architecture is always 65.
ModelConfig parse_model_config(std::string_view text, const std::string& where, ExitCode code = ExitCode::kBadInput);

// Writes the config.json of this geometry with its rope. All keys of the source are kept; rotary settings are written
// in v5 form.
std::string write_model_config(const ModelConfig& config);

// Merges `overrides` (the keys of `rope:`) key by key over `config`'s rotations. They apply to every layer that
// rotates; in families whose windowed layers have a separate rotation (gemma3_text, olmo3), only to layers with full
// attention. `overrides.sliding_attention` is merged over the rotation of the windowed layers only. Errors are 64.
ModelRope merge_model_rope(const ModelConfig& config, const Json& overrides, const std::string& where);

// Fails with error 64 if `asked` rotates a different number of pairs than the model does: memory is allocated for
// those.
void require_same_pairs(const ModelRope& asked, const ModelConfig& model);

// Fails with error 64, naming the nearest values that work, if query heads do not divide over `tensor` ranks, or if
// key/value heads neither divide nor are divided by it.
void require_tensor_parallel(const ModelConfig& config, int64_t tensor);

// Tensors in the family's files that hold several of our parameters, row after row (phi3: q, k and v; gate and up).
std::vector<FusedTensor> fused_tensors(const ModelConfig& config);

}  // namespace carillon
