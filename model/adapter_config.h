// Adapters of a model (LoRA): which linear layers have one, with which rank and scale. Interprets PEFT's
// adapter_config.json as model/config.h does config.json: text in, struct out, and whatever is not computed exactly is
// refused by name. Sources: PEFT's LoraConfig (its field names), Hu et al., 2106.09685; rslora: 2312.03732.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.h"
#include "runtime/parse_json.h"
#include "runtime/quantization.h"

namespace carillon {

struct ModelConfig;

struct AdapterModule {
  int64_t rank = 0;
  double alpha = 0;
};

struct AdapterConfig {
  std::map<std::string, AdapterModule> modules;  // by layer name: "model.layers.0.self_attn.q_proj"
  double dropout = 0;                            // of an adapter's input, only in training
  bool rslora = false;
  // Quantization of the frozen weights of all linear layers except the head, in training.
  Quantization base_quantization = Quantization::kNone;

  explicit operator bool() const { return !modules.empty(); }
  // s in y = W·x + s·B(A·x): alpha / rank, with rslora alpha / √rank.
  double scale(const AdapterModule& module) const;
};

// The user's settings for a new adapter.
struct AdapterSettings {
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  bool rslora = false;
  std::vector<std::string> targets;  // q_proj, …, from adapter_targets(); empty: all of them
};

// The layers that can have an adapter, as in a state dict: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj,
// down_proj.
const std::vector<std::string>& adapter_targets();
// "model.layers.3.mlp.up_proj", for one of these targets.
std::string module_name(int64_t layer, const std::string& target);

// The layer that a weight belongs to: "model.layers.3.mlp.up_proj" for "model.layers.3.mlp.up_proj.weight".
std::string module_of_weight(const std::string& weight);

// Number of elements in all A and B.
int64_t adapter_parameters(const ModelConfig& model);

AdapterConfig new_adapter(const ModelConfig& model, const AdapterSettings& settings);

// Names of an adapter's tensors in PEFT's state dict, by the layer they belong to.
inline constexpr std::string_view kAdapterPrefix = "base_model.model.";
std::string adapter_a_name(const std::string& module);  // "base_model.model.MODULE.lora_A.weight", [rank, in]
std::string adapter_b_name(const std::string& module);  // "base_model.model.MODULE.lora_B.weight", [out, rank]

// Reads the adapter_config.json of an adapter that holds `tensors` (name -> shape), for `model`. The tensors determine
// which layers have an adapter; the text determines its scale, including rank_pattern and alpha_pattern if present.
// `where` names the file in messages. Fails with error 65 for another kind of adapter (DoRA, modules_to_save, biases,
// embeddings …), which it names; a layer that the model does not have; and a tensor whose shape does not fit its rank
// and layer, or whose partner is missing.
AdapterConfig parse_adapter_config(std::string_view text, const std::map<std::string, std::vector<int64_t>>& tensors,
                                   const ModelConfig& model, const std::string& where);

// Writes the adapter_config.json of this adapter for PEFT; `base` is the base model's name in it.
std::string write_adapter_config(const AdapterConfig& adapter, const ModelConfig& model, const std::string& base);

}  // namespace carillon
