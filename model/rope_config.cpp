#include "model/rope_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace carillon {
namespace {

constexpr std::array kTypes = {std::pair{"none", RopeType::kNone},
                               std::pair{"default", RopeType::kDefault},
                               std::pair{"linear", RopeType::kLinear},
                               std::pair{"ntk", RopeType::kNtk},
                               std::pair{"dynamic", RopeType::kDynamic},
                               std::pair{"ntk_by_parts", RopeType::kNtkByParts},
                               std::pair{"yarn", RopeType::kYarn},
                               std::pair{"llama3", RopeType::kLlama3},
                               std::pair{"longrope", RopeType::kLongRope},
                               std::pair{"proportional", RopeType::kProportional},
                               std::pair{"distributional", RopeType::kDistributional},
                               std::pair{"clex", RopeType::kClex}};

// Settings in one spelling. Null values are kept; they mean "the method's own".
Json canonical(const Json& settings) {
  Json result = Json::object();
  for (const auto& [key, value] : settings.items()) {
    // Old files contain both spellings; transformers uses the new one.
    if (key == "type" && settings.contains("rope_type") && !settings["rope_type"].is_null()) continue;
    if (key == "rope_type" && value.is_null()) continue;
    result[key == "type" ? "rope_type" : key == "base" ? "rope_theta" : key] = value;
  }
  if (!result.contains("rope_type") || result["rope_type"].is_null()) result["rope_type"] = "default";
  if (result["rope_type"] == "su") result["rope_type"] = "longrope";
  // CLEX's own files use other names.
  if (result["rope_type"] == "clex")
    for (const auto& [theirs, ours] :
         {std::pair{"max_factor", "factor"}, std::pair{"time_dt", "time_step"}, std::pair{"act", "activation"}})
      if (result.contains(theirs)) {
        const Json value = result[theirs];
        result.erase(theirs);
        result[ours] = value;
      }
  return result;
}

// Reads values one after another and reports errors in one form.
class Reader {
 public:
  Reader(const Json& settings, const std::string& where, ExitCode code)
      : settings_(settings), where_(where), code_(code) {}

  bool has(const char* key) const { return settings_.contains(key) && !settings_[key].is_null(); }

  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!settings_[key].is_number()) wrong(key, "a number");
    const double value = settings_[key].get<double>();
    if (!std::isfinite(value)) wrong(key, "a finite number");
    return value;
  }
  double positive(const char* key, double otherwise) const {
    const double value = number(key, otherwise);
    if (value <= 0) wrong(key, "above 0");
    return value;
  }
  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!settings_[key].is_boolean()) wrong(key, "true or false");
    return settings_[key].get<bool>();
  }
  std::string word(const char* key) const {
    if (!settings_[key].is_string()) wrong(key, "a word");
    return settings_[key].get<std::string>();
  }
  int64_t length(const char* key, int64_t otherwise) const {
    if (!has(key)) return otherwise;
    const double value = number(key, 0);
    constexpr double kMost = int64_t{1} << 40;  // more than any text has, and 8 times as many still fit
    if (value < 1 || value > kMost || value != std::floor(value)) wrong(key, "a whole number of tokens, 2^40 at most");
    return static_cast<int64_t>(value);
  }
  std::vector<double> list(const char* key) const {
    require(key);
    std::vector<double> values;
    if (!settings_[key].is_array()) wrong(key, "a list of numbers, one per pair");
    for (const Json& value : settings_[key]) {
      if (!value.is_number() || value.get<double>() <= 0) wrong(key, "a list of numbers above 0, one per pair");
      values.push_back(value.get<double>());
    }
    return values;
  }
  void require(const char* key) const {
    if (!settings_.contains(key))
      fail(code_, "rope type {} needs {}, in {}, add rope.{}", settings_["rope_type"].get<std::string>(), key, where_,
           key);
  }
  [[noreturn]] void wrong(const char* key, const char* wanted) const {
    fail(code_, "rope.{} is {}, in {}, give {}", key, settings_.value(key, Json()).dump(), where_, wanted);
  }

 private:
  const Json& settings_;
  const std::string& where_;
  ExitCode code_;
};

double ratio_of_lengths(const RopeConfig& config) {
  return static_cast<double>(config.max_position_embeddings) /
         static_cast<double>(config.original_max_position_embeddings);
}

void read_type(RopeConfig& config, const Reader& read) {
  switch (config.type) {
    case RopeType::kNone:
    case RopeType::kDefault:
      break;
    case RopeType::kDynamic:
      if (read.has("alpha")) {
        config.alpha = read.positive("alpha", 1);
        config.factor = read.positive("factor", 1);
        break;
      }
      read.require("factor");
      config.factor = read.positive("factor", ratio_of_lengths(config));
      break;
    case RopeType::kProportional:
      read.require("partial_rotary_factor");
      config.factor = read.positive("factor", 1);
      break;
    case RopeType::kLongRope:
      config.short_factor = read.list("short_factor");
      config.long_factor = read.list("long_factor");
      config.factor = read.positive("factor", ratio_of_lengths(config));
      config.mixed_windows = read.boolean("mixed_windows", false);
      if (config.mixed_windows && config.length)
        read.wrong("length", "nothing: with mixed_windows each document has its own");
      break;
    case RopeType::kClex: {
      read.require("factor");
      config.factor = read.positive("factor", ratio_of_lengths(config));
      const double width = read.positive("param_factor", 1);
      if (width != std::floor(width) || width > 1024) read.wrong("param_factor", "a whole number from 1 to 1024");
      config.param_factor = static_cast<int64_t>(width);
      config.time_step = read.positive("time_step", 0.01);
      if (config.time_step < 1e-4 || config.time_step > 1) read.wrong("time_step", "from 0.0001 to 1");
      // A million steps take seconds in each training step.
      if (config.factor > 1024 || (config.factor - 1) / config.time_step > 1e6)
        read.wrong("factor", "1024 at most, and a million steps of rope.time_step");
      if (read.has("activation")) {
        const bool silu = read.word("activation") == "silu";
        if (!silu && read.word("activation") != "tanh") read.wrong("activation", "tanh or silu");
        if (silu) config.activation = RopeConfig::Activation::kSilu;
      }
      break;
    }
    case RopeType::kLlama3:
      read.require("low_freq_factor");
      read.require("high_freq_factor");
      config.low_freq_factor = read.positive("low_freq_factor", 1);
      config.high_freq_factor = read.positive("high_freq_factor", 4);
      if (config.high_freq_factor <= config.low_freq_factor)
        read.wrong("high_freq_factor", "more than low_freq_factor");
      [[fallthrough]];
    default:
      read.require("factor");
      config.factor = read.positive("factor", ratio_of_lengths(config));
  }
}

}  // namespace

RopeConfig parse_rope_config(const Json& given, int64_t max_position_embeddings, const std::string& where,
                             ExitCode code) {
  if (!given.is_object()) fail(code, "rope settings are {}, in {}, give keys and values", given.dump(), where);
  RopeConfig config;
  config.settings = canonical(given);
  const Json& settings = config.settings;
  const Reader read(settings, where, code);

  if (!settings["rope_type"].is_string()) read.wrong("rope_type", "the name of a method");
  std::string type = settings["rope_type"].get<std::string>();
  config.resonance = read.boolean("resonance", false);
  if (type == "resonance_yarn") {
    if (read.has("resonance") && !config.resonance) read.wrong("resonance", "true, or type yarn");
    type = "yarn";
    config.resonance = true;
  }
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& entry) { return type == entry.first; });
  if (found == kTypes.end()) {
    fail(code,
         "unknown rope type '{}', in {}, use none, default, linear, ntk, dynamic, ntk_by_parts, yarn, resonance_yarn, "
         "llama3, longrope, proportional, distributional or clex",
         type, where);
  }
  config.type = found->second;
  if (read.has("cope")) {
    const double faded = read.number("cope", 0);
    // The half cosine goes from the whole frequency to none; a single pair would have only its beginning.
    if (faded < 0 || faded == 1 || faded != std::floor(faded) || faded > 1e6)
      read.wrong("cope", "how many of the slowest pairs are faded, 2 or more, or 0 for none");
    config.cope = static_cast<int64_t>(faded);
  }

  config.base = read.number("rope_theta", 10000);
  if (config.base <= 1) read.wrong("rope_theta", "more than 1");
  config.max_position_embeddings = max_position_embeddings;
  config.original_max_position_embeddings = read.length("original_max_position_embeddings", max_position_embeddings);
  config.partial_rotary_factor = read.number("partial_rotary_factor", 1);
  if (config.partial_rotary_factor < 0 || config.partial_rotary_factor > 1)
    read.wrong("partial_rotary_factor", "0 to 1");
  if (read.has("length")) config.length = read.length("length", 0);
  if (read.has("attention_factor")) config.attention_factor = read.positive("attention_factor", 1);
  // As Hugging Face reads them: 0 means the default.
  const double fast = read.number("beta_fast", 32), slow = read.number("beta_slow", 1);
  config.beta_fast = fast == 0 ? 32 : fast;
  config.beta_slow = slow == 0 ? 1 : slow;
  if (config.beta_slow < 0) read.wrong("beta_slow", "above 0");
  if (config.beta_fast <= config.beta_slow) read.wrong("beta_fast", "more than beta_slow");
  config.truncate = read.boolean("truncate", true);
  config.llama_4_scaling_beta = read.number("llama_4_scaling_beta", 0);
  if (config.llama_4_scaling_beta < 0) read.wrong("llama_4_scaling_beta", "0 or above");
  config.mscale = read.number("mscale", 0);
  config.mscale_all_dim = read.number("mscale_all_dim", 0);
  if (read.has("yarn_blend")) {
    if (settings["yarn_blend"] != "wavelength" && settings["yarn_blend"] != "frequency")
      read.wrong("yarn_blend", "frequency or wavelength");
    config.wavelength_blend = settings["yarn_blend"] == "wavelength";
  }
  config.disturbance_threshold = read.number("disturbance_threshold", 0);
  if (config.type != RopeType::kLongRope && read.boolean("mixed_windows", false))
    read.wrong("mixed_windows", "that with type longrope, whose lists it chooses between");
  read_type(config, read);
  return config;
}

RopeConfig merge_rope_config(const RopeConfig& base, const Json& overrides, const std::string& where) {
  Json merged = base.settings.is_object() ? base.settings : Json{{"rope_type", "default"}};
  const bool names_type = overrides.contains("type") || overrides.contains("rope_type");
  const Json changes = canonical(overrides);
  if (names_type && changes["rope_type"] != merged["rope_type"]) {
    Json kept = Json::object();
    for (const char* key :
         {"rope_theta", "resonance", "cope", "original_max_position_embeddings", "length", "llama_4_scaling_beta"})
      if (merged.contains(key)) kept[key] = merged[key];
    if (merged.contains("partial_rotary_factor") && base.type != RopeType::kProportional &&
        changes["rope_type"] != "proportional")
      kept["partial_rotary_factor"] = merged["partial_rotary_factor"];
    merged = std::move(kept);
  }
  for (const auto& [key, value] : changes.items())
    if (key != "rope_type" || names_type) merged[key] = value;
  RopeConfig config = parse_rope_config(merged, base.max_position_embeddings, where, ExitCode::kUsage);
  // A model's own is what it was trained with.
  if (changes.contains("factor") && config.factor < 1)
    fail(ExitCode::kUsage, "rope.factor is {}, in {}, give 1 or above: it is how much further",
         changes["factor"].dump(), where);
  return config;
}

std::string name_of(RopeType type) {
  return std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& entry) { return type == entry.second; })->first;
}

std::string describe(const RopeConfig& config) {
  std::string text = (config.resonance ? "resonance " : "") + name_of(config.type);
  if (config.cope > 0) text += " with its " + std::to_string(config.cope) + " slowest pairs faded";
  return text;
}

}  // namespace carillon
