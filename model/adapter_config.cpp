#include "model/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>

#include "model/config.h"
#include "runtime/json_fields.h"

namespace carillon {
namespace {

constexpr const char* kRemedy = "use an adapter of PEFT's type LORA on linear layers, or merge it with PEFT first";

struct Shape {
  int64_t out, in;
};
Shape shape_of(const ModelConfig& model, const std::string& target) {
  const int64_t queries = model.num_attention_heads * model.head_dim, channels = model.hidden_size;
  const int64_t keys = model.num_key_value_heads * model.head_dim;
  if (target == "q_proj") return {queries, channels};
  if (target == "k_proj" || target == "v_proj") return {keys, channels};
  if (target == "o_proj") return {channels, queries};
  if (target == "down_proj") return {channels, model.intermediate_size};
  return {model.intermediate_size, channels};  // gate_proj, up_proj
}

// Takes "model.layers.N.…", the form of all possible modules.
int64_t layer_of(const std::string& module) { return std::stoll(module.substr(std::string("model.layers.").size())); }

std::string target_of(const std::string& module) { return module.substr(module.rfind('.') + 1); }

// Every layer that can have an adapter, with the shape of its weight.
std::map<std::string, Shape> possible_modules(const ModelConfig& model) {
  std::map<std::string, Shape> modules;
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer)
    for (const std::string& target : adapter_targets())
      modules.emplace(module_name(layer, target), shape_of(model, target));
  return modules;
}

bool says_something(const Json& value) {
  return !(value.is_null() || value == false || (value.is_array() || value.is_object() ? value.empty() : false));
}

// Refuses settings of PEFT's LoraConfig that change the result and that we do not compute.
void refuse_other_adapters(const JsonFields& fields, const std::string& where) {
  const auto refuse = [&](const std::string& key) {
    fail(ExitCode::kBadInput, "{} is {}, in {}, it is not supported: {}", key, fields.json().at(key).dump(), where,
         kRemedy);
  };
  if (fields.text_or("peft_type", "") != "LORA")
    fail(ExitCode::kBadInput, "peft_type is {}, in {}, {}", fields.json().value("peft_type", Json()).dump(), where,
         kRemedy);
  if (fields.text_or("bias", "none") != "none") refuse("bias");
  for (const char* key :
       {"modules_to_save", "use_dora", "lora_bias", "fan_in_fan_out", "trainable_token_indices", "target_parameters",
        "layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "corda_config",
        "eva_config", "loftq_config", "velora_config", "megatron_config"})
    if (fields.has(key) && says_something(fields.at(key))) refuse(key);
  // These replace the base's weights by a remainder that excludes the adapter.
  const Json start = fields.has("init_lora_weights") ? fields.at("init_lora_weights") : Json(true);
  if (start.is_string())
    for (const char* name : {"pissa", "olora", "corda", "loftq", "lora_ga"})
      if (start.get<std::string>().starts_with(name)) refuse("init_lora_weights");
}

// Whether PEFT's list of modules names this one, by its full name or the end of it. For the text model of a wrapper,
// the list may have longer names than ours.
bool names_module(const Json& list, const std::string& module) {
  const std::string tail = module.substr(module.find('.'));
  return std::any_of(list.begin(), list.end(), [&](const Json& item) {
    const std::string name = item.is_string() ? item.get<std::string>() : "";
    return module == name || module.ends_with("." + name) || name.ends_with(tail);
  });
}

// PEFT ignores adapters in the file for layers that its configuration does not list. In that case one of the two is
// wrong. (If the layers are given by a regular expression, the file is trusted.)
void require_targeted(const JsonFields& fields, const std::vector<std::string>& names, int64_t layer,
                      const std::string& where) {
  const auto listed = [&](const char* key) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return names_module(fields.at(key), name); });
  };
  const auto refuse = [&](const char* key) {
    fail(ExitCode::kBadInput, "{} has an adapter, which {} {} leaves out, in {}, fix that or the tensors",
         names.front(), key, fields.at(key).dump(), where);
  };
  const auto is_list = [&](const char* key) { return fields.has(key) && fields.at(key).is_array(); };
  if (is_list("target_modules") && !listed("target_modules")) refuse("target_modules");
  if (is_list("exclude_modules") && listed("exclude_modules")) refuse("exclude_modules");
  if (!fields.has("layers_to_transform")) return;
  const Json& layers = fields.at("layers_to_transform");
  const bool kept = layers.is_array()
                        ? layers.empty() || std::find(layers.begin(), layers.end(), Json(layer)) != layers.end()
                        : layers == layer;
  if (!kept) refuse("layers_to_transform");
}

// PEFT's rule: the first key that matches the module's name or its end, as a regular expression.
const Json* pattern_for(const Json& patterns, const std::string& module, const std::string& where) {
  for (const auto& [key, value] : patterns.items()) {
    try {
      if (std::regex_match(module, std::regex("(.*\\.)?(" + key + ")"))) return &value;
    } catch (const std::regex_error&) {
      fail(ExitCode::kBadInput, "the pattern {} is not a regular expression, in {}, fix it", key, where);
    }
  }
  return nullptr;
}

template <class Number>
Number by_pattern(const JsonFields& fields, const char* key, const std::string& module, Number otherwise,
                  const std::string& where) {
  if (!fields.has(key)) return otherwise;
  const Json* value = pattern_for(fields.object(key).json(), module, where);
  if (value == nullptr) return otherwise;
  if constexpr (std::is_integral_v<Number>) {
    if (const std::optional<int64_t> whole = integer_of(*value); whole && *whole >= 1) return *whole;
    fail(ExitCode::kBadInput, "{} is {}, in {} of {}, give a whole number from 1", key, value->dump(), module, where);
  } else {
    if (value->is_number() && std::isfinite(value->get<Number>())) return value->get<Number>();
    fail(ExitCode::kBadInput, "{} is {}, in {} of {}, give a number", key, value->dump(), module, where);
  }
}

// Alternative names that a pattern may use for a layer that the model's files store fused with others (phi3's q_proj:
// qkv_proj).
std::map<std::string, std::string> names_in_files(const ModelConfig& model) {
  std::map<std::string, std::string> names;
  for (const FusedTensor& whole : fused_tensors(model))
    for (const FusedTensor::Part& part : whole.parts) names[module_of_weight(part.name)] = module_of_weight(whole.name);
  return names;
}

std::string readable(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

double AdapterConfig::scale(const AdapterModule& module) const {
  const auto rank = static_cast<double>(module.rank);
  return module.alpha / (rslora ? std::sqrt(rank) : rank);
}

const std::vector<std::string>& adapter_targets() {
  static const std::vector<std::string> targets{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                "gate_proj", "up_proj", "down_proj"};
  return targets;
}

std::string module_name(int64_t layer, const std::string& target) {
  const bool attention = target.size() == 6;  // q_proj, k_proj, v_proj, o_proj
  return fmt::format("model.layers.{}.{}.{}", layer, attention ? "self_attn" : "mlp", target);
}

std::string module_of_weight(const std::string& weight) { return weight.substr(0, weight.rfind('.')); }

int64_t adapter_parameters(const ModelConfig& model) {
  int64_t count = 0;
  for (const auto& [name, module] : model.adapter.modules) {
    const Shape shape = shape_of(model, target_of(name));
    count += module.rank * (shape.out + shape.in);
  }
  return count;
}

AdapterConfig new_adapter(const ModelConfig& model, const AdapterSettings& settings) {
  AdapterConfig adapter;
  adapter.dropout = settings.dropout;
  adapter.rslora = settings.rslora;
  const std::vector<std::string>& targets = settings.targets.empty() ? adapter_targets() : settings.targets;
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer)
    for (const std::string& target : targets)
      adapter.modules[module_name(layer, target)] = {settings.rank, settings.alpha};
  return adapter;
}

std::string adapter_a_name(const std::string& module) {
  return std::string(kAdapterPrefix) + module + ".lora_A.weight";
}
std::string adapter_b_name(const std::string& module) {
  return std::string(kAdapterPrefix) + module + ".lora_B.weight";
}

AdapterConfig parse_adapter_config(std::string_view text, const std::map<std::string, std::vector<int64_t>>& tensors,
                                   const ModelConfig& model, const std::string& where) {
  const Json json = parse_json(text, where);
  const JsonFields fields(json, {where, kRemedy});
  refuse_other_adapters(fields, where);
  AdapterConfig adapter;
  adapter.dropout = fields.number_or("lora_dropout", 0, 0, 1);
  adapter.rslora = fields.boolean_or("use_rslora", false);
  const int64_t rank = fields.integer_or("r", 8, 1);
  const double alpha = fields.number_or("lora_alpha", 8);
  const std::map<std::string, Shape> possible = possible_modules(model);
  const std::map<std::string, std::string> names = names_in_files(model);
  std::set<std::string> known;
  for (const auto& [name, shape] : tensors) {
    constexpr std::string_view kEnd = ".lora_A.weight";
    if (!name.starts_with(kAdapterPrefix) || !name.ends_with(kEnd)) continue;
    const std::string module = name.substr(kAdapterPrefix.size(), name.size() - kAdapterPrefix.size() - kEnd.size());
    const auto found = possible.find(module);
    if (found == possible.end())
      fail(ExitCode::kBadInput, "{} has an adapter, in {}, only the layers {} of this model can have one", module,
           where, fmt::join(adapter_targets(), ", "));
    const auto in_files = names.find(module);
    require_targeted(fields, in_files == names.end() ? std::vector{module} : std::vector{module, in_files->second},
                     layer_of(module), where);
    const auto by_names = [&](const char* key, auto otherwise) {
      if (in_files != names.end()) otherwise = by_pattern(fields, key, in_files->second, otherwise, where);
      return by_pattern(fields, key, module, otherwise, where);
    };
    const AdapterModule here{by_names("rank_pattern", rank), by_names("alpha_pattern", alpha)};
    const std::string b = adapter_b_name(module);
    if (!tensors.contains(b))
      fail(ExitCode::kBadInput, "tensor {} is missing beside {}, in {}, export the adapter again", b, name, where);
    const auto expect = [&](const std::string& tensor, const std::vector<int64_t>& wanted) {
      if (tensors.at(tensor) != wanted)
        fail(ExitCode::kBadInput,
             "tensor {} is {}, its rank and the base model say {}, in {}, name the base model it was made for", tensor,
             readable(tensors.at(tensor)), readable(wanted), where);
    };
    expect(name, {here.rank, found->second.in});
    expect(b, {found->second.out, here.rank});
    adapter.modules[module] = here;
    known.insert(name), known.insert(b);
  }
  for (const auto& [name, shape] : tensors)
    if (!known.contains(name))
      fail(ExitCode::kBadInput, "tensor {} is no lora_A or lora_B of a linear layer, in {}, {}", name, where, kRemedy);
  if (!adapter) fail(ExitCode::kBadInput, "there is no lora_A tensor, in {}, {}", where, kRemedy);
  return adapter;
}

std::string write_adapter_config(const AdapterConfig& adapter, const ModelConfig& model, const std::string& base) {
  CHECK(adapter, "an adapter has layers");
  const AdapterModule& common = adapter.modules.begin()->second;
  Json ranks = Json::object(), alphas = Json::object();
  std::map<std::string, int64_t> layers_of;
  for (const auto& [name, module] : adapter.modules) {
    if (module.rank != common.rank) ranks[name] = module.rank;
    if (module.alpha != common.alpha) alphas[name] = module.alpha;
    ++layers_of[target_of(name)];
  }
  // Uses short names if every layer has them.
  Json targets = Json::array();
  if (std::all_of(layers_of.begin(), layers_of.end(),
                  [&](const auto& entry) { return entry.second == model.num_hidden_layers; })) {
    for (const auto& [name, count] : layers_of) targets.push_back(name);
  } else {
    for (const auto& [name, module] : adapter.modules) targets.push_back(name);
  }
  const bool whole = common.alpha == std::floor(common.alpha) && std::abs(common.alpha) < 1e15;
  const Json json = {{"peft_type", "LORA"},
                     {"task_type", "CAUSAL_LM"},
                     {"base_model_name_or_path", base},
                     {"r", common.rank},
                     {"lora_alpha", whole ? Json(static_cast<int64_t>(common.alpha)) : Json(common.alpha)},
                     {"lora_dropout", adapter.dropout},
                     {"target_modules", targets},
                     {"bias", "none"},
                     {"fan_in_fan_out", false},
                     {"inference_mode", true},
                     {"use_rslora", adapter.rslora},
                     {"modules_to_save", nullptr},
                     {"layers_to_transform", nullptr},
                     {"rank_pattern", ranks},
                     {"alpha_pattern", alphas}};
  return json.dump(2);
}

}  // namespace carillon
