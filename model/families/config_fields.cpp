#include "model/families/config_fields.h"

#include <cmath>

namespace carillon {

void ConfigFields::wrong(const char* key, const std::string& remedy) const {
  fail(code_, "{} is {}, in {}, {}", key, json_.contains(key) ? json_[key].dump() : "absent", where_, remedy);
}

int64_t ConfigFields::size(const char* key, int64_t otherwise) const {
  if (!has(key)) return otherwise;
  const int64_t value = count(key, 0);
  if (value < 1) wrong(key, "give a whole number above 0");
  return value;
}

int64_t ConfigFields::required_size(const char* key) const {
  if (!has(key)) wrong(key, "give a whole number above 0");
  return size(key, 0);
}

int64_t ConfigFields::count(const char* key, int64_t otherwise) const {
  if (!has(key)) return otherwise;
  const Json& value = json_[key];
  // Some writers write 4096.0; values beyond 2^40 are surely mistakes.
  const double number = value.is_number() ? value.get<double>() : -1;
  if (!(number >= 0 && number <= 0x1p40) || number != std::floor(number))
    wrong(key, "give a whole number, 0 or above and up to 2^40");
  return static_cast<int64_t>(number);
}

double ConfigFields::number(const char* key, double otherwise) const {
  if (!has(key)) return otherwise;
  if (!json_[key].is_number() || !(json_[key].get<double>() >= 0) || std::isinf(json_[key].get<double>()))
    wrong(key, "give a number, 0 or above");
  return json_[key].get<double>();
}

bool ConfigFields::boolean(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  if (!json_[key].is_boolean()) wrong(key, "give true or false");
  return json_[key].get<bool>();
}

std::string ConfigFields::text(const char* key) const {
  return has(key) && json_[key].is_string() ? json_[key].get<std::string>() : "";
}

int64_t ConfigFields::window(int64_t otherwise) const {
  return has_key("sliding_window") ? count("sliding_window", 0) : otherwise;
}

void ConfigFields::set_windows(ModelConfig& config, int64_t width, const std::function<bool(int64_t)>& slides) const {
  std::vector<bool> sliding;
  if (has("layer_types")) {
    const Json& types = json_["layer_types"];
    if (!types.is_array() || static_cast<int64_t>(types.size()) != config.num_hidden_layers)
      fail(code_, "layer_types has {} entries, num_hidden_layers is {}, in {}, give one entry per layer",
           types.is_array() ? types.size() : 0, config.num_hidden_layers, where_);
    for (const Json& type : types) {
      if (type != "sliding_attention" && type != "full_attention")
        wrong("layer_types", "only full_attention and sliding_attention are supported");
      sliding.push_back(type == "sliding_attention");
    }
  } else {
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) sliding.push_back(slides(layer));
  }
  for (size_t layer = 0; layer < sliding.size(); ++layer) {
    if (!sliding[layer]) continue;
    if (width == 0)
      fail(code_, "layer {} slides and there is no sliding_window{}, in {}, give the window's width or full_attention",
           layer, has("use_sliding_window") ? " (use_sliding_window: " + json_["use_sliding_window"].dump() + ")" : "",
           where_);
    config.layers[layer].attention.window = width;
  }
}

void ConfigFields::set_rotating(ModelConfig& config, const std::function<bool(int64_t)>& rotates) const {
  const bool listed = has("no_rope_layers") && json_["no_rope_layers"].is_array() && !json_["no_rope_layers"].empty();
  if (has("no_rope_layers") && !json_["no_rope_layers"].is_array())
    wrong("no_rope_layers", "give a list of 0 and 1, one per layer");
  if (listed && static_cast<int64_t>(json_["no_rope_layers"].size()) != config.num_hidden_layers)
    wrong("no_rope_layers", "give one entry per layer");
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    bool turns = rotates(layer);
    if (listed) {
      const Json& entry = json_["no_rope_layers"][static_cast<size_t>(layer)];
      if (!entry.is_number() && !entry.is_boolean()) wrong("no_rope_layers", "give a list of 0 and 1, one per layer");
      turns = entry.is_boolean() ? entry.get<bool>() : entry.get<double>() != 0;
    }
    config.layers[static_cast<size_t>(layer)].attention.rotates = turns;
  }
}

GateActivation ConfigFields::activation(const char* key, const char* otherwise) const {
  const std::string name = has(key) ? text(key) : otherwise;
  if (name == "silu" || name == "swish") return GateActivation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return GateActivation::kGeluTanh;
  wrong(key, "only silu and gelu_pytorch_tanh are supported");
}

void set_layers(ModelConfig& config, LayerSpec spec) {
  if (spec.attention.scale == 0) spec.attention.scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  config.layers.assign(static_cast<size_t>(config.num_hidden_layers), spec);
}

}  // namespace carillon
