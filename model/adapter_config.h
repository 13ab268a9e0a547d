// Adapters of a model (LoRA): which linear layers have one, of which rank and scale. The meaning of PEFT's
// adapter_config.json as model/config.h has that of config.json: text in, struct out; what is not computed exactly is
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
  std::map<std::string, AdapterModule> modules;  // by the layer's name: "model.layers.0.self_attn.q_proj"
  double dropout = 0;                            // of an adapter's input, in training only
  bool rslora = false;
  // Of the frozen weights of all linear layers but the head, in training.
  Quantization base_quantization = Quantization::kNone;

  explicit operator bool() const { return !modules.empty(); }
  // s in y = W·x + s·B(A·x): alpha / rank, with rslora alpha / √rank.
  double scale(const AdapterModule& module) const;
};

// What a person sets of a new adapter.
struct AdapterSettings {
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  bool rslora = false;
  std::vector<std::string> targets;  // q_proj, … of adapter_targets(); empty: all of them
};

// The layers that can have an adapter, as in a state dict: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj,
// down_proj.
const std::vector<std::string>& adapter_targets();
// "model.layers.3.mlp.up_proj", of one of these.
std::string module_name(int64_t layer, const std::string& target);

// "model.layers.3.mlp.up_proj", of the layer's weight.
std::string module_of_weight(const std::string& weight);

// Numbers in all its A and B.
int64_t adapter_parameters(const ModelConfig& model);

AdapterConfig new_adapter(const ModelConfig& model, const AdapterSettings& settings);

// A tensor of an adapter in PEFT's state dict and the layer it belongs to.
inline constexpr std::string_view kAdapterPrefix = "base_model.model.";
std::string adapter_a_name(const std::string& module);  // "base_model.model.MODULE.lora_A.weight", [rank, in]
std::string adapter_b_name(const std::string& module);  // "base_model.model.MODULE.lora_B.weight", [out, rank]

// Reads adapter_config.json of an adapter that holds `tensors` (name -> shape) on `model`: the tensors say which layers
// have one, the text with what scale, by rank_pattern and alpha_pattern where there are some. `where` names it in
// messages. Error 65: another kind of adapter (DoRA, modules_to_save, biases, embeddings …), by name; a layer that the
// model does not have; a tensor whose shape is not that of its rank and layer, or whose partner is missing.
AdapterConfig parse_adapter_config(std::string_view text, const std::map<std::string, std::vector<int64_t>>& tensors,
                                   const ModelConfig& model, const std::string& where);

// The adapter_config.json of this adapter, for PEFT; `base`: what it says its base model is.
std::string write_adapter_config(const AdapterConfig& adapter, const ModelConfig& model, const std::string& base);

}  // namespace carillon
