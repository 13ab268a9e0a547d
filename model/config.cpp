#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "model/rope.h"

namespace carillon {
namespace {

struct Family {
  const char* model_type;
  const char* class_name;
  Architecture architecture;
  int64_t max_position_embeddings;  // what transformers takes when the key is absent
};
constexpr Family kFamilies[] = {{"llama", "LlamaForCausalLM", Architecture::kLlama, 2048},
                                {"mistral", "MistralForCausalLM", Architecture::kMistral, 131072},
                                {"qwen2", "Qwen2ForCausalLM", Architecture::kQwen2, 32768},
                                {"qwen3", "Qwen3ForCausalLM", Architecture::kQwen3, 32768}};

class ConfigReader {
 public:
  ConfigReader(const Json& json, const std::string& where, ExitCode code) : json_(json), where_(where), code_(code) {}

  ModelConfig read() {
    family();
    refuse_unsupported();
    config_.source = json_;
    config_.vocab_size = required("vocab_size");
    config_.hidden_size = required("hidden_size");
    config_.intermediate_size = required("intermediate_size");
    config_.num_hidden_layers = required("num_hidden_layers");
    config_.num_attention_heads = required("num_attention_heads");
    config_.num_key_value_heads = integer("num_key_value_heads", config_.num_attention_heads);
    config_.max_position_embeddings = integer("max_position_embeddings", family_->max_position_embeddings);
    config_.rms_norm_eps = number("rms_norm_eps", 1e-6);
    config_.initializer_range = number("initializer_range", 0.02);
    config_.tie_word_embeddings = boolean("tie_word_embeddings", false);
    head_dim();
    biases();
    window();
    end_tokens();
    config_.rope = parse_rope_config(rope_settings(), config_.max_position_embeddings, where_, code_);
    make_rope_table(config_.rope, config_.head_dim, 1);  // refuses settings that do not fit the head
    return config_;
  }

 private:
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  [[noreturn]] void wrong(const char* key, const std::string& wanted) const {
    fail(code_, "{} is {}, in {}, {}", key, json_.contains(key) ? json_[key].dump() : "absent", where_, wanted);
  }
  int64_t integer(const char* key, int64_t otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_number_integer() || json_[key].get<int64_t>() < 1 ||
        json_[key].get<int64_t>() > int64_t{1} << 40)
      wrong(key, "give a whole number above 0");
    return json_[key].get<int64_t>();
  }
  int64_t required(const char* key) const {
    if (!has(key)) wrong(key, "give a whole number above 0");
    return integer(key, 0);
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_number() || !(json_[key].get<double>() >= 0) || std::isinf(json_[key].get<double>()))
      wrong(key, "give a number, 0 or above");
    return json_[key].get<double>();
  }
  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_boolean()) wrong(key, "give true or false");
    return json_[key].get<bool>();
  }
  std::string text(const char* key) const {
    return has(key) && json_[key].is_string() ? json_[key].get<std::string>() : "";
  }

  void family() {
    std::string name = text("model_type");
    std::string class_name;
    if (has("architectures") && json_["architectures"].is_array() && !json_["architectures"].empty() &&
        json_["architectures"][0].is_string())
      class_name = json_["architectures"][0].get<std::string>();
    for (const Family& family : kFamilies) {
      const bool type_fits = name == family.model_type || (name.empty() && class_name == family.class_name);
      if (type_fits && (class_name.empty() || class_name == family.class_name)) family_ = &family;
    }
    if (family_ == nullptr) {
      fail(ExitCode::kBadInput,
           "architecture '{}'{} is not supported, in {}, take a llama, mistral, qwen2 or qwen3 causal model",
           name.empty() ? class_name : name, class_name.empty() || name.empty() ? "" : " (" + class_name + ")", where_);
    }
    config_.architecture = family_->architecture;
  }

  void refuse_unsupported() const {
    for (const char* key :
         {"quantization_config", "num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size",
          "attn_logit_softcapping", "final_logit_softcapping", "attention_chunk_size", "kv_lora_rank"})
      if (has(key)) wrong(key, "models with it are not supported, take one without");
    if (has("hidden_act") && text("hidden_act") != "silu") wrong("hidden_act", "only silu is supported");
    if (has("attention_dropout") && json_["attention_dropout"] != 0.0)
      wrong("attention_dropout", "set it to 0, dropout is not supported");
  }

  void head_dim() {
    const int64_t heads = config_.num_attention_heads;
    // transformers' Qwen3Config has a head_dim of 128 whatever the width.
    const int64_t otherwise = config_.architecture == Architecture::kQwen3 ? 128 : config_.hidden_size / heads;
    config_.head_dim = integer("head_dim", otherwise);
    if (!has("head_dim") && config_.architecture != Architecture::kQwen3 && config_.hidden_size % heads != 0)
      wrong("hidden_size", "make it a multiple of num_attention_heads or give head_dim");
    if (config_.head_dim % 2 != 0) wrong("head_dim", "give an even number, the rotation turns pairs");
    if (heads % config_.num_key_value_heads != 0) wrong("num_key_value_heads", "give a divisor of num_attention_heads");
  }

  void biases() {
    const bool attention = boolean("attention_bias", false);
    switch (config_.architecture) {
      case Architecture::kLlama:
        config_.mlp_bias = boolean("mlp_bias", false);
        config_.qkv_bias = config_.o_bias = attention;
        break;
      case Architecture::kMistral:
        break;
      case Architecture::kQwen2:
        config_.qkv_bias = true;
        break;
      case Architecture::kQwen3:
        config_.qkv_bias = config_.o_bias = attention;
        config_.qk_norm = true;
        break;
    }
  }

  // Which layers slide: all or none. The rest is refused, a window of some layers would be another model.
  void window() {
    if (config_.architecture == Architecture::kLlama) return;
    int64_t width = 0;
    bool slides = true, stays = true;
    if (config_.architecture == Architecture::kMistral) {
      width =
          json_.contains("sliding_window") && json_["sliding_window"].is_null() ? 0 : integer("sliding_window", 4096);
      stays = width == 0;
      slides = !stays;
    } else {
      width = boolean("use_sliding_window", false) ? integer("sliding_window", 4096) : 0;
      const int64_t first_sliding =
          has("max_window_layers") && json_["max_window_layers"] == 0 ? 0 : integer("max_window_layers", 28);
      slides = width > 0 && first_sliding < config_.num_hidden_layers;
      stays = width == 0 || first_sliding > 0;
    }
    if (has("layer_types") && json_["layer_types"].is_array()) {
      slides = stays = false;
      for (const Json& type : json_["layer_types"]) {
        if (type == "sliding_attention")
          slides = true;
        else if (type == "full_attention")
          stays = true;
        else
          wrong("layer_types", "only full_attention and sliding_attention are supported");
      }
    }
    if (slides && stays)
      wrong(has("layer_types") ? "layer_types" : "max_window_layers",
            "windows in a part of the layers are not supported");
    if (slides && width == 0) wrong("sliding_window", "give the window's width");
    config_.sliding_window = slides ? width : 0;
  }

  void end_tokens() {
    if (!has("eos_token_id")) return;
    const Json& value = json_["eos_token_id"];
    for (const Json& token : value.is_array() ? value : Json::array({value})) {
      if (!token.is_number_integer()) wrong("eos_token_id", "give a token id or a list of them");
      config_.eos_token_id.push_back(token.get<int64_t>());
    }
  }

  // v5's rope_parameters, else v4's rope_scaling with the top level's rope_theta; in v5 names.
  Json rope_settings() const {
    Json settings = Json::object();
    // What `carillon export` wrote beside the form other programs read: the exact definition.
    if (has("carillon_rope") && json_["carillon_rope"].is_object()) return json_["carillon_rope"];
    if (has("rope_parameters"))
      settings = rope_parameters();
    else if (has("rope_scaling"))
      settings = json_["rope_scaling"];
    if (!settings.is_object())
      wrong(has("rope_parameters") ? "rope_parameters" : "rope_scaling", "give keys and values");
    for (const char* key : {"rope_theta", "partial_rotary_factor"})
      if (!settings.contains(key) && has(key)) settings[key] = json_[key];
    // Phi-3 and transformers v5: the top level wins.
    if (has("original_max_position_embeddings"))
      settings["original_max_position_embeddings"] = json_["original_max_position_embeddings"];
    if (boolean("resonance_rope", false)) settings["resonance"] = true;
    return settings;
  }

  Json rope_parameters() const {
    const Json& all = json_["rope_parameters"];
    std::optional<Json> common;
    for (const char* layer_type : {"full_attention", "sliding_attention"}) {
      if (!all.is_object() || !all.contains(layer_type)) continue;
      if (common && *common != all[layer_type])
        wrong("rope_parameters", "settings by layer type are not supported unless equal");
      common = all[layer_type];
    }
    return common.value_or(all);
  }

  const Json& json_;
  const std::string& where_;
  ExitCode code_;
  const Family* family_ = nullptr;
  ModelConfig config_;
};

std::string nearest_divisors(int64_t number, int64_t wanted) {
  int64_t below = 1, above = number;
  for (int64_t d = 1; d <= number; ++d) {
    if (number % d != 0) continue;
    if (d < wanted) below = d;
    if (d > wanted) {
      above = d;
      break;
    }
  }
  return below == above || above < wanted ? fmt::format("{}", below) : fmt::format("{} or {}", below, above);
}

}  // namespace

int64_t ModelConfig::rotary_pairs() const { return carillon::rotary_pairs(rope, head_dim); }

int64_t ModelConfig::parameter_count() const {
  const int64_t q = num_attention_heads * head_dim, kv = num_key_value_heads * head_dim;
  int64_t layer = 2 * hidden_size + (2 * q + 2 * kv + 3 * intermediate_size) * hidden_size;
  if (qkv_bias) layer += q + 2 * kv;
  if (o_bias) layer += hidden_size;
  if (mlp_bias) layer += 2 * intermediate_size + hidden_size;
  if (qk_norm) layer += 2 * head_dim;
  return num_hidden_layers * layer + hidden_size + (tie_word_embeddings ? 1 : 2) * vocab_size * hidden_size;
}

ModelConfig parse_model_config(std::string_view text, const std::string& where, ExitCode code) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(code, "not a JSON object, in {}, take a Hugging Face config.json", where);
  return ConfigReader(json, where, code).read();
}

std::string write_model_config(const ModelConfig& config) {
  Json json = config.source;
  json.erase("rope_scaling");
  json.erase("original_max_position_embeddings");
  json.erase("resonance_rope");
  json.erase("carillon_rope");
  json["rope_parameters"] = config.rope.settings;
  json["rope_parameters"]["rope_theta"] = config.rope.base;
  json["rope_theta"] = config.rope.base;
  return json.dump(2);
}

void require_tensor_parallel(const ModelConfig& config, int64_t tensor) {
  if (config.num_attention_heads % tensor != 0) {
    fail(ExitCode::kUsage, "{} query heads do not divide over parallel.tensor = {}, in the configuration, take {}",
         config.num_attention_heads, tensor, nearest_divisors(config.num_attention_heads, tensor));
  }
  if (config.num_key_value_heads % tensor != 0 && tensor % config.num_key_value_heads != 0) {
    fail(ExitCode::kUsage,
         "{} key/value heads neither divide nor are divided by parallel.tensor = {}, in the configuration, take {}",
         config.num_key_value_heads, tensor, nearest_divisors(config.num_key_value_heads, tensor));
  }
}

}  // namespace carillon
