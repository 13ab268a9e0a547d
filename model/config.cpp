#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "model/export_config.h"
#include "model/families/config_fields.h"
#include "model/families/family.h"
#include "model/rope.h"
#include "model/same_model.h"

namespace carillon {
namespace {

constexpr int64_t kMostLayers = 100000;  // larger values are mistakes, and their list of layers would fill memory

constexpr const char* kOtherHeads[] = {"ForSequence", "ForToken", "ForQuestion", "ForImageClassification"};

// Python writes Infinity and NaN, which JSON does not have. No key that Carillon reads may hold one, so they become
// null. Strings are left alone.
std::string without_python_numbers(std::string_view text) {
  std::string result;
  bool quoted = false, escaped = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      quoted = escaped || c != '"';
      escaped = !escaped && c == '\\';
      result += c;
      continue;
    }
    quoted = c == '"';
    bool number = false;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (number || text.substr(i, word.size()) != word) continue;
      result += "null";
      i += word.size() - 1;
      number = true;
    }
    if (!number) result += c;
  }
  return result;
}

// architectures[0], empty if there is none.
std::string class_of(const Json& config) {
  const auto found = config.find("architectures");
  const bool named = found != config.end() && found->is_array() && !found->empty() && (*found)[0].is_string();
  return named ? (*found)[0].get<std::string>() : "";
}

// Whether a class of this name has a head for something else than the next token.
bool has_other_head(const std::string& class_name) {
  return std::any_of(std::begin(kOtherHeads), std::end(kOtherHeads),
                     [&](const char* head) { return class_name.find(head) != std::string::npos; });
}

// The model_type of a text_config that names none: the default of the wrapper's class in transformers 5.24. Empty for
// wrappers that have no default, or whose default is not read here.
std::string default_text_model(const std::string& wrapper) {
  static const std::map<std::string, std::vector<std::string>> wrappers = {
      {"gemma", {"paligemma"}},
      {"gemma3_text", {"gemma3"}},
      {"granite", {"granite_speech", "granite_speech_plus"}},
      {"llama",
       {"deepseek_vl", "deepseek_vl_hybrid", "idefics3", "janus", "llava", "llava_next", "llava_next_video",
        "perception_lm", "smolvlm", "video_llava", "vipllava"}},
      {"mistral", {"idefics2", "mistral3"}},
      {"qwen2",
       {"audioflamingo3", "fast_vlm", "got_ocr2", "internvl", "llava_onevision", "musicflamingo", "ovis2",
        "qwen2_audio", "vibevoice", "vibevoice_asr", "video_llama_3"}},
      {"qwen3", {"lighton_ocr", "qianfan_ocr", "qwen3_asr"}}};
  for (const auto& [text, names] : wrappers)
    if (std::find(names.begin(), names.end(), wrapper) != names.end()) return text;
  return "";
}

// The config.json of the text model in a wrapper's (vision) one; keys given only at the top level are kept.
Json text_model_of(const Json& wrapper, const std::string& where, ExitCode code) {
  Json text = wrapper["text_config"];
  const auto type = wrapper.find("model_type");
  const std::string outer = type != wrapper.end() && type->is_string() ? type->get<std::string>() : "";
  if (!text.contains("model_type") || text["model_type"].is_null()) {
    text["model_type"] = default_text_model(outer);
    if (text["model_type"] == "")
      fail(code, "text_config has no model_type, in {}, add that of the text model of {}", where,
           outer.empty() ? "this wrapper" : outer);
  }
  if (outer == "gemma3") text["model_type"] = "gemma3_text";
  text["tie_word_embeddings"] = wrapper.value("tie_word_embeddings", Json(true));
  for (const char* key : {"eos_token_id", "bos_token_id", "pad_token_id", "torch_dtype", "dtype", "initializer_range",
                          "quantization_config"})
    if (wrapper.contains(key) && !text.contains(key)) text[key] = wrapper[key];
  text.erase("final_logit_softcapping");  // the wrapper's class does not apply it
  text.erase("architectures");
  if (has_other_head(class_of(wrapper))) text["architectures"] = wrapper["architectures"];  // refused by its name
  return text;
}

// Refuses settings that do not fit the head, longrope's list for long sequences included.
void require_fit(const ModelRope& ropes, int64_t head_dim) {
  for (const RopeConfig* rope : {&ropes.rope, ropes.sliding_rope ? &*ropes.sliding_rope : nullptr}) {
    if (rope == nullptr) continue;
    make_rope_table(*rope, head_dim, 1);
    if (rope->type == RopeType::kLongRope) make_rope_table(*rope, head_dim, std::numeric_limits<int64_t>::max());
  }
}

class ConfigReader {
 public:
  ConfigReader(const Json& json, const std::string& where, ExitCode code, bool wrapped)
      : fields_(json, where, code), wrapped_(wrapped) {}

  ModelConfig read() {
    find_family();
    refuse_unsupported();
    const Family::Defaults& otherwise = config_.family->defaults;
    config_.source = fields_.json();
    config_.vocab_size = size("vocab_size", otherwise.vocab_size);
    config_.hidden_size = size("hidden_size", otherwise.hidden_size);
    config_.intermediate_size = size("intermediate_size", otherwise.intermediate_size);
    config_.num_hidden_layers = size("num_hidden_layers", otherwise.layers);
    if (config_.num_hidden_layers > kMostLayers) fields_.wrong("num_hidden_layers", "give 100000 at most");
    config_.num_attention_heads = size("num_attention_heads", otherwise.heads);
    const int64_t kv_heads = fields_.has_key("num_key_value_heads") || otherwise.key_value_heads == 0
                                 ? config_.num_attention_heads
                                 : otherwise.key_value_heads;
    config_.num_key_value_heads = fields_.size("num_key_value_heads", kv_heads);
    config_.max_position_embeddings = fields_.size("max_position_embeddings", otherwise.max_position_embeddings);
    config_.rms_norm_eps = fields_.number("rms_norm_eps", otherwise.rms_norm_eps);
    config_.initializer_range = fields_.number("initializer_range", 0.02);
    config_.tie_word_embeddings = fields_.boolean("tie_word_embeddings", otherwise.tied);
    head_dim();
    end_tokens();
    rotation();
    config_.family->read(fields_, config_);
    if (wrapped_) say_sizes();
    remark_dropout();
    try {
      require_fit(config_, config_.head_dim);
    } catch (const Error& error) {
      fail(fields_.code(), "{}, in {}", error.what(), fields_.where());
    }
    remark_differences();
    remark_unused();
    return config_;
  }

 private:
  const Json& json() const { return fields_.json(); }

  // Keys of a wrapper's text model may be missing: its class has defaults for them.
  int64_t size(const char* key, int64_t otherwise) const {
    return wrapped_ ? fields_.size(key, otherwise) : fields_.required_size(key);
  }

  // Writes out the sizes, so that the text model's own config.json needs no defaults.
  void say_sizes() {
    Json& json = config_.source;
    json["vocab_size"] = config_.vocab_size;
    json["hidden_size"] = config_.hidden_size;
    json["intermediate_size"] = config_.intermediate_size;
    json["num_hidden_layers"] = config_.num_hidden_layers;
    json["num_attention_heads"] = config_.num_attention_heads;
    json["num_key_value_heads"] = config_.num_key_value_heads;
    json["head_dim"] = config_.head_dim;
    json["eos_token_id"] = config_.eos_token_id;
  }

  // By model_type, as in transformers, or by the class name if there is none. A class without a head for the next token
  // is not a causal model.
  void find_family() {
    const std::string name = fields_.text("model_type");
    const std::string class_name = fields_.has_key("architectures") ? class_of(json()) : "";
    const bool other_head = has_other_head(class_name);
    for (const Family& family : families())
      if (!other_head && (name == family.model_type || (name.empty() && class_name == family.class_name)))
        config_.family = &family;
    if (config_.family == nullptr) {
      fail(ExitCode::kBadInput, "architecture '{}'{} is not supported, in {}, use a causal model of one of these: {}",
           name.empty() ? class_name : name, class_name.empty() || name.empty() ? "" : " (" + class_name + ")",
           fields_.where(), family_names());
    }
  }

  void refuse_unsupported() const {
    for (const char* key : {"quantization_config", "attention_chunk_size", "kv_lora_rank"})
      if (fields_.has(key)) fields_.wrong(key, "models with it are not supported, use one without it");
    refuse_experts();
    if (!fields_.boolean("is_causal", true)) fields_.wrong("is_causal", "only causal attention is supported");
    if (std::string(config_.family->model_type) == "gemma3_text") return;
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"})
      if (fields_.has(key)) fields_.wrong(key, "models with it are not supported, use one without it");
  }

  // Dense models of a family with experts may hold these keys too, and then say that there is one expert, or none.
  void refuse_experts() const {
    bool dense = false;
    for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
      if (!fields_.has(key)) continue;
      const Json& value = json()[key];
      const Json counts = value.is_array() ? value : Json::array({value});
      dense = std::all_of(counts.begin(), counts.end(),
                          [](const Json& count) { return count.is_number() && count.get<double>() <= 1; });
      if (!dense) fields_.wrong(key, "mixtures of experts are not supported, use a dense model");
    }
    if (fields_.has("moe_intermediate_size") && !dense)
      fields_.wrong("moe_intermediate_size", "mixtures of experts are not supported, use a dense model");
  }

  // Whether transformers wrote the file, or a person for it: its own keys, which ours need not have, are there.
  bool of_transformers() const {
    return fields_.code() == ExitCode::kBadInput &&
           (fields_.has("architectures") || fields_.has("transformers_version"));
  }

  // Names every key that counts here although the family's class in transformers computes something else.
  void remark_differences() {
    const auto remark = [&](const std::string& key) {
      config_.remarks.push_back(fmt::format("{} is applied, in {}: transformers' {} leaves it out", key,
                                            fields_.where(), config_.family->class_name));
    };
    for (const LeftOut& left_out : left_out_by_transformers(config_))
      if (left_out.key == "partial_rotary_factor" || of_transformers()) remark(left_out.key);
    if (!of_transformers()) return;
    const bool unused = config_.windows() == std::vector<int64_t>{0} && fields_.window(0) > 0;
    if (config_.family->windows == Family::Windows::kAll && unused && fields_.has("use_sliding_window"))
      remark("use_sliding_window");
    if (config_.rope.type == RopeType::kDynamic && config_.rope.alpha &&
        std::string(config_.family->model_type) != "hunyuan_v1_dense")
      remark("alpha of a dynamic rotation");
  }

  // A run's own geometry holds only keys that somebody wrote. Files hold many that mean nothing here.
  void remark_unused() {
    if (fields_.code() != ExitCode::kUsage) return;
    for (const auto& [key, value] : json().items())
      if (!value.is_null() && !fields_.was_asked(key))
        config_.remarks.push_back(fmt::format("model.{} has no effect with architecture {}, in the configuration", key,
                                              config_.family->model_type));
  }

  void remark_dropout() {
    std::string keys;
    for (const char* key : {"attention_dropout", "residual_dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout"})
      if (fields_.has(key) && json()[key].is_number() && json()[key].get<double>() != 0)
        keys += (keys.empty() ? "" : ", ") + std::string(key);
    if (!keys.empty())
      config_.remarks.push_back(fmt::format("{} of {} not applied: Carillon trains without dropout", keys,
                                            fields_.where() + (keys.find(',') == keys.npos ? " is" : " are")));
  }

  void head_dim() {
    const int64_t heads = config_.num_attention_heads, own = config_.family->defaults.head_dim;
    const bool derived = !fields_.has("head_dim") && (own == 0 || fields_.has_key("head_dim"));
    config_.head_dim = derived ? config_.hidden_size / heads : fields_.size("head_dim", own);
    if (derived && config_.hidden_size % heads != 0)
      fields_.wrong("hidden_size", "make it a multiple of num_attention_heads or give head_dim");
    if (config_.head_dim % 2 != 0 || config_.head_dim == 0)
      fields_.wrong("head_dim", "give an even number, the rotation turns pairs");
    if (heads % config_.num_key_value_heads != 0)
      fields_.wrong("num_key_value_heads", "give a divisor of num_attention_heads");
  }

  void end_tokens() {
    const Json value = fields_.has("eos_token_id") ? json()["eos_token_id"]
                       : wrapped_                  ? Json::parse(config_.family->defaults.eos)
                                                   : Json();
    if (value.is_null()) return;
    for (const Json& token : value.is_array() ? value : Json::array({value})) {
      if (!token.is_number_integer() || token < 0) fields_.wrong("eos_token_id", "give a token id or a list of them");
      config_.eos_token_id.push_back(token.get<int64_t>());
    }
  }

  // What the file says in Hugging Face's keys. `carillon_rope`, the exact definition that `carillon export` writes
  // alongside them, counts only if both say the same.
  void rotation() {
    const ModelRope said = public_rope();
    static_cast<ModelRope&>(config_) = said;
    const bool nested = config_.family->defaults.sliding_rope[0] != '\0';
    if (nested && fields_.has("rope_scaling") && json()["rope_scaling"].contains("type") &&
        !json()["rope_scaling"].contains("rope_type"))
      config_.remarks.push_back(fmt::format(
          "the type of rope_scaling does not count, in {}: transformers' {} looks for rope_type, which says {}",
          fields_.where(), config_.family->class_name, name_of(said.rope.type)));
    if (!fields_.has("carillon_rope") || !json()["carillon_rope"].is_object()) return;
    Json exact = json()["carillon_rope"];
    std::optional<Json> sliding;
    if (exact.contains("sliding_attention")) {
      sliding = exact["sliding_attention"];
      exact.erase("sliding_attention");
    }
    ModelRope ours{parse(exact), sliding ? std::optional(parse(*sliding)) : std::nullopt};
    if (same_rotation(ours.rope, said.rope, config_.head_dim) &&
        ours.sliding_rope.has_value() == said.sliding_rope.has_value() &&
        (!ours.sliding_rope || same_rotation(*ours.sliding_rope, *said.sliding_rope, config_.head_dim)))
      static_cast<ModelRope&>(config_) = std::move(ours);
    else
      config_.remarks.push_back(fmt::format(
          "rope_parameters were changed since the export, in {}: they count, the exact copy in carillon_rope does not",
          fields_.where()));
  }

  RopeConfig parse(const Json& settings) const {
    return parse_rope_config(settings, config_.max_position_embeddings, fields_.where(), fields_.code());
  }

  // v5's rope_parameters, by kind of layer or for all layers; or v4's rope_scaling, which replaces them unless it is
  // empty, with rope_theta of the top level; otherwise the defaults of the family's class.
  ModelRope public_rope() {
    const Family::Defaults& otherwise = config_.family->defaults;
    const bool nested = otherwise.sliding_rope[0] != '\0';
    const Json plain = Json::parse(otherwise.rope);
    Json full = plain;
    std::optional<Json> sliding;
    if (nested) sliding = Json::parse(otherwise.sliding_rope);
    const bool scaling = fields_.has("rope_scaling") && json()["rope_scaling"] != Json::object();
    const bool parameters = fields_.has("rope_parameters") && !(scaling && !nested);
    for (const char* key : {"rope_scaling", "rope_parameters"})
      if (fields_.has(key) && !json()[key].is_object()) fields_.wrong(key, "give keys and values");

    bool given = false;
    if (parameters) {
      const Json& all = json()["rope_parameters"];
      const bool by_kind = all.contains("full_attention") || all.contains("sliding_attention");
      for (const char* kind : {"full_attention", "sliding_attention"})
        if (all.contains(kind) && !all[kind].is_object())
          fields_.wrong("rope_parameters", fmt::format("give keys and values for {}", kind));
      if (by_kind) {
        if (all.contains("full_attention")) full = all["full_attention"], given = true;
        if (all.contains("sliding_attention") && (nested || all["sliding_attention"] != full))
          sliding = all["sliding_attention"];
        if (!all.contains("full_attention") && !nested) full = all["sliding_attention"], given = true;
        if (!nested && !sliding && of_transformers())
          config_.remarks.push_back(
              fmt::format("rope_parameters by kind of layer is applied, in {}: transformers' {} leaves it out",
                          fields_.where(), config_.family->class_name));
      } else if (!nested) {
        full = all, given = true;  // the nested classes read only the two kinds
      }
    }
    if (scaling) {
      // The nested classes put it over what there is for full attention, at least a rope_type, which outranks `type`.
      if (!nested || !given) full = nested ? Json{{"rope_type", "default"}} : Json::object();
      full.update(json()["rope_scaling"]);
      given = true;
      full.erase("full_attention");
      full.erase("sliding_attention");
    }
    // A default rotation with a scaling is used as a whole or not at all.
    if (!given && plain["rope_type"] == "default" && fields_.has("rope_theta"))
      full["rope_theta"] = json()["rope_theta"];
    if (given && !full.contains("rope_theta") && fields_.has("rope_theta")) full["rope_theta"] = json()["rope_theta"];
    if (!full.contains("partial_rotary_factor") && fields_.has("partial_rotary_factor"))
      full["partial_rotary_factor"] = json()["partial_rotary_factor"];
    if (given && !full.contains("rope_theta") && !full.contains("base")) full["rope_theta"] = plain["rope_theta"];
    if (std::string(config_.family->model_type) == "gemma3_text" && fields_.has("rope_local_base_freq") && !parameters)
      (*sliding)["rope_theta"] = json()["rope_local_base_freq"];
    if (sliding && !sliding->contains("rope_theta"))
      (*sliding)["rope_theta"] = nested ? Json::parse(otherwise.sliding_rope)["rope_theta"] : full["rope_theta"];
    if (nested) truncate_of_nested(full, *sliding);
    adjust_phi3(full);
    // Phi-3 and transformers v5: the top level wins.
    if (fields_.has("original_max_position_embeddings"))
      full["original_max_position_embeddings"] = json()["original_max_position_embeddings"];
    if (fields_.boolean("resonance_rope", false)) full["resonance"] = true;
    return {parse(full), sliding ? std::optional(parse(*sliding)) : std::nullopt};
  }

  // For YaRN, the nested classes read `truncate` beside the kinds of layer, for all of them, and only there.
  void truncate_of_nested(Json& full, Json& sliding) {
    const Json* const common = fields_.has("rope_parameters") && json()["rope_parameters"].contains("truncate")
                                   ? &json()["rope_parameters"]["truncate"]
                                   : nullptr;
    for (Json* rope : {&full, &sliding}) {
      if (rope->value("rope_type", rope->value("type", Json())) != "yarn") continue;
      if (common == nullptr && rope->value("truncate", Json(true)) != true)
        config_.remarks.push_back(
            fmt::format("truncate of a kind of layer does not count, in {}: transformers' {} reads it in "
                        "rope_parameters itself",
                        fields_.where(), config_.family->class_name));
      rope->erase("truncate");
      if (common != nullptr) (*rope)["truncate"] = *common;
    }
  }

  // Phi-3's class has older names for longrope and its own default length.
  void adjust_phi3(Json& full) const {
    if (std::string(config_.family->model_type) != "phi3") return;
    for (const char* key : {"rope_type", "type"})
      if (full.contains(key) && (full[key] == "su" || full[key] == "yarn") && full.contains("short_factor"))
        full[key] = "longrope";
    if (!fields_.has("original_max_position_embeddings")) full["original_max_position_embeddings"] = 4096;
  }

  ConfigFields fields_;
  bool wrapped_;
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

std::vector<int64_t> ModelConfig::windows() const {
  std::vector<int64_t> distinct;
  for (const LayerSpec& layer : layers)
    if (std::find(distinct.begin(), distinct.end(), layer.attention.window) == distinct.end())
      distinct.push_back(layer.attention.window);
  if (distinct.empty()) distinct.push_back(0);
  return distinct;
}

bool ModelConfig::any(bool (*has)(const LayerSpec&)) const { return std::any_of(layers.begin(), layers.end(), has); }

ModelConfig parse_model_config(std::string_view text, const std::string& where, ExitCode code) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) json = Json::parse(without_python_numbers(text), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(code, "not a JSON object, in {}, use a Hugging Face config.json", where);
  const bool wrapped = json.contains("text_config") && json["text_config"].is_object();
  if (wrapped) json = text_model_of(json, where, code);
  return ConfigReader(json, where, code, wrapped).read();
}

std::string write_model_config(const ModelConfig& config) {
  Json json = config.source;
  for (const char* key :
       {"rope_scaling", "original_max_position_embeddings", "resonance_rope", "carillon_rope", "rope_local_base_freq"})
    json.erase(key);
  json["model_type"] = config.family->model_type;
  const auto settings = [](const RopeConfig& rope) {
    Json result = rope.settings;
    result["rope_theta"] = rope.base;
    return result;
  };
  json["rope_parameters"] = settings(config.rope);
  if (config.sliding_rope) {
    json["rope_parameters"] = {{"full_attention", settings(config.rope)},
                               {"sliding_attention", settings(*config.sliding_rope)}};
    if (untruncated(config)) json["rope_parameters"]["truncate"] = false;
  }
  json["rope_theta"] = config.rope.base;
  return json.dump(2);
}

ModelRope merge_model_rope(const ModelConfig& config, const Json& overrides, const std::string& where) {
  Json general = overrides;
  std::optional<Json> windowed;
  if (overrides.contains("sliding_attention")) {
    if (!overrides["sliding_attention"].is_object())
      fail(ExitCode::kUsage, "{}.sliding_attention is {}, in the configuration, give keys and values as for rope",
           where, overrides["sliding_attention"].dump());
    windowed = overrides["sliding_attention"];
    general.erase("sliding_attention");
  }
  ModelRope result{merge_rope_config(config.rope, general, where), config.sliding_rope};
  const bool apart = config.family != nullptr && config.family->defaults.sliding_rope[0] != '\0';
  if (result.sliding_rope && !apart) result.sliding_rope = merge_rope_config(*result.sliding_rope, general, where);
  if (windowed)
    result.sliding_rope = merge_rope_config(result.sliding_rope ? *result.sliding_rope : result.rope, *windowed,
                                            where + ".sliding_attention");
  const bool differ = result.sliding_rope && result.rope.type == RopeType::kYarn &&
                      result.sliding_rope->type == RopeType::kYarn &&
                      result.rope.truncate != result.sliding_rope->truncate;
  if (apart && differ)
    fail(ExitCode::kUsage,
         "{0}.truncate and {0}.sliding_attention.truncate differ, in the configuration, give both the "
         "same: {1} has one for both",
         where, config.family->class_name);
  require_fit(result, config.head_dim);
  return result;
}

void require_same_pairs(const ModelRope& asked, const ModelConfig& model) {
  const auto check = [&](const RopeConfig& wanted, const RopeConfig& own) {
    const int64_t turns = rotary_pairs(wanted, model.head_dim), allocated = rotary_pairs(own, model.head_dim);
    if (turns != allocated)
      fail(ExitCode::kUsage, "this rope turns {} pairs of a head, the model's {}, in rope, keep partial_rotary_factor",
           turns, allocated);
  };
  check(asked.rope, model.rope);
  if (asked.sliding_rope) check(*asked.sliding_rope, model.sliding_rope ? *model.sliding_rope : model.rope);
}

void require_tensor_parallel(const ModelConfig& config, int64_t tensor) {
  if (config.num_attention_heads % tensor != 0) {
    fail(ExitCode::kUsage, "{} query heads do not divide over parallel.tensor = {}, in the configuration, use {}",
         config.num_attention_heads, tensor, nearest_divisors(config.num_attention_heads, tensor));
  }
  if (config.num_key_value_heads % tensor != 0 && tensor % config.num_key_value_heads != 0) {
    fail(ExitCode::kUsage,
         "{} key/value heads neither divide nor are divided by parallel.tensor = {}, in the configuration, use {}",
         config.num_key_value_heads, tensor, nearest_divisors(config.num_key_value_heads, tensor));
  }
}

std::vector<FusedTensor> fused_tensors(const ModelConfig& config) {
  std::vector<FusedTensor> fused;
  if (config.family == nullptr || !config.family->fused_projections) return fused;
  const int64_t q = config.num_attention_heads * config.head_dim, kv = config.num_key_value_heads * config.head_dim;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
    const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
    fused.push_back(
        {attention + "qkv_proj.weight",
         {{attention + "q_proj.weight", q}, {attention + "k_proj.weight", kv}, {attention + "v_proj.weight", kv}}});
    fused.push_back(
        {mlp + "gate_up_proj.weight",
         {{mlp + "gate_proj.weight", config.intermediate_size}, {mlp + "up_proj.weight", config.intermediate_size}}});
  }
  return fused;
}

}  // namespace carillon
