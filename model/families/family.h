// The table of families: each one's name, the defaults of its class in transformers for absent keys, and the function
// that reads its settings. Adding one takes a row in families.cpp and a reader next to the others (CONTRIBUTING.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/families/config_fields.h"

namespace carillon {

struct Family {
  const char* model_type;
  const char* class_name;  // architectures[0]
  // Sets config.layers and the multipliers; all sizes in `config` are already set.
  void (*read)(const ConfigFields& fields, ModelConfig& config);

  // Defaults of its configuration class for absent keys. 0 key_value_heads: as many as query heads; 0 head_dim:
  // hidden_size / num_attention_heads.
  struct Defaults {
    int64_t vocab_size, hidden_size, intermediate_size, layers, heads, key_value_heads, head_dim;
    int64_t max_position_embeddings;
    double rms_norm_eps = 1e-6;
    bool tied = false;
    const char* eos = "null";                                                 // JSON
    const char* rope = R"({"rope_type": "default", "rope_theta": 10000.0})";  // rope_parameters as a whole
    // If not empty, windowed layers have a separate rotation, and rope_parameters is nested by kind of layer.
    const char* sliding_rope = "";
  } defaults;

  const char* q_norm = "self_attn.q_norm.weight";
  const char* k_norm = "self_attn.k_norm.weight";
  bool fused_projections = false;  // files hold self_attn.qkv_proj and mlp.gate_up_proj
  // What its class computes, for the export.
  enum class Windows { kNone, kAll, kByLayer } windows = Windows::kNone;
  bool can_mark_no_rope = false;  // its config.json can mark layers that do not rotate
  // Export: adds what its class needs in config.json; fails with error 64 naming what it cannot express. May be absent.
  void (*write)(const ModelConfig& config, Json& json) = nullptr;
};

const std::vector<Family>& families();
// Returns null if there is no such family.
const Family* find_family(const std::string& model_type);
// "llama, mistral, …".
std::string family_names();

// Readers: one file per family, or one for several that differ in a line.
void read_llama(const ConfigFields& fields, ModelConfig& config);
void read_mistral(const ConfigFields& fields, ModelConfig& config);
void read_qwen2(const ConfigFields& fields, ModelConfig& config);
void read_qwen3(const ConfigFields& fields, ModelConfig& config);
void read_gemma(const ConfigFields& fields, ModelConfig& config);
void read_gemma3(const ConfigFields& fields, ModelConfig& config);
void read_olmo2(const ConfigFields& fields, ModelConfig& config);
void read_olmo3(const ConfigFields& fields, ModelConfig& config);
void read_smollm3(const ConfigFields& fields, ModelConfig& config);
void read_ministral3(const ConfigFields& fields, ModelConfig& config);
void write_ministral3(const ModelConfig& config, Json& json);
void read_phi3(const ConfigFields& fields, ModelConfig& config);
void write_phi3(const ModelConfig& config, Json& json);
void read_granite(const ConfigFields& fields, ModelConfig& config);
void read_seed_oss(const ConfigFields& fields, ModelConfig& config);
void read_cwm(const ConfigFields& fields, ModelConfig& config);
void read_exaone4(const ConfigFields& fields, ModelConfig& config);
void read_hunyuan(const ConfigFields& fields, ModelConfig& config);
void write_hunyuan(const ModelConfig& config, Json& json);

}  // namespace carillon
