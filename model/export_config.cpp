#include "model/export_config.h"

#include <algorithm>
#include <cmath>

#include "model/families/family.h"
#include "model/rope.h"

namespace carillon {
namespace {

// Whether the family's class in transformers computes this type under its own name. YaRN is excluded for the four
// oldest families, because readers of their files disagree on the length that its ramp uses (README.md of
// data/formats).
bool known_elsewhere(const RopeConfig& rope, const Family& family) {
  const std::string name = family.model_type;
  if (rope.resonance || rope.cope > 0) return false;
  if (name == "phi3") return rope.type == RopeType::kDefault || rope.type == RopeType::kLongRope;
  switch (rope.type) {
    case RopeType::kNone:
    case RopeType::kNtk:
    case RopeType::kNtkByParts:
    case RopeType::kDistributional:
      return false;
    case RopeType::kYarn:
      return !rope.wavelength_blend && name != "llama" && name != "mistral" && name != "qwen2" && name != "qwen3";
    case RopeType::kDynamic:
      return !rope.alpha || name == "hunyuan_v1_dense";
    default:
      return true;
  }
}

// The divisor of a pair that does not rotate: at position 1e12 its angle is below 1e-17.
constexpr double kStill = 1e30;

// The divisors that turn the plain frequencies of this base into those of the table.
std::vector<double> factors_of(const RopeConfig& rope, int64_t head_dim, int64_t length) {
  const RopeTable table = make_rope_table(rope, head_dim, length);
  const int64_t width = 2 * static_cast<int64_t>(table.inverse_frequency.size());
  std::vector<double> factors;
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i)
    factors.push_back(table.inverse_frequency[i] == 0
                          ? kStill
                          : std::pow(rope.base, -2.0 * static_cast<double>(i) / static_cast<double>(width)) /
                                table.inverse_frequency[i]);
  return factors;
}

Json as_longrope(const RopeConfig& rope, int64_t head_dim) {
  const int64_t original = rope.original_max_position_embeddings;
  const bool two_lists = rope.type == RopeType::kLongRope;
  const double attention = make_rope_table(rope, head_dim, original).attention_factor;
  Json settings = {{"rope_type", "longrope"},
                   {"type", "longrope"},
                   {"rope_theta", rope.base},
                   {"factor", std::max(rope.factor, 1.0)},
                   {"original_max_position_embeddings", original},
                   {"attention_factor", attention},
                   {"short_factor", factors_of(rope, head_dim, original)},
                   {"long_factor", factors_of(rope, head_dim, two_lists ? original + 1 : original)},
                   {"short_mscale", attention},
                   {"long_mscale", attention}};
  // proportional's share is already in the factors: its pairs are those of the whole head.
  if (rope.partial_rotary_factor != 1 && rope.type != RopeType::kProportional)
    settings["partial_rotary_factor"] = rope.partial_rotary_factor;
  return settings;
}

// One rotation in v5's names, as transformers computes it.
Json public_form(const RopeConfig& rope, const ModelConfig& config) {
  Json settings = rope.settings;
  settings["rope_theta"] = rope.base;
  if (known_elsewhere(rope, *config.family)) {
    settings.erase("resonance");
    settings.erase("cope");
    settings.erase("mixed_windows");  // other programs process one document at a time
    return settings;
  }
  const bool by_length = rope.type == RopeType::kDynamic && !rope.alpha;
  const bool changed = rope.resonance || rope.cope > 0;
  const bool phi3 = std::string(config.family->model_type) == "phi3";
  if (rope.type == RopeType::kNone || (rope.type == RopeType::kProportional && phi3) || by_length)
    fail(ExitCode::kUsage, "{}{} has no form that transformers' {} reads, export, train with another rope.type{}",
         changed ? "" : "rope type ", describe(rope), config.family->class_name,
         rope.resonance ? " or without resonance"
         : changed      ? " or without rope.cope"
                        : "");
  if (rope.type == RopeType::kNtk && !changed && !phi3) {
    // ntk only changes the base, which follows from θ_1 of the table.
    const RopeTable table = make_rope_table(rope, config.head_dim, rope.original_max_position_embeddings);
    const double width = 2.0 * static_cast<double>(table.inverse_frequency.size());
    return {{"rope_type", "default"}, {"rope_theta", std::pow(table.inverse_frequency[1], -width / 2)}};
  }
  return as_longrope(rope, config.head_dim);
}

// The length that a rotation is configured to reach.
int64_t reach_of(const RopeConfig& rope) {
  return static_cast<int64_t>(
      std::min(rope.factor * static_cast<double>(rope.original_max_position_embeddings), 0x1p62));
}

// Fails with error 64 for anything the family's class in transformers does not compute.
void require_exportable(const ModelConfig& config) {
  const Family& family = *config.family;
  const auto refuse = [&](const std::string& what) {
    fail(ExitCode::kUsage, "{}, which transformers' {} does not compute, export, keep the model in Carillon's own file",
         what, family.class_name);
  };
  if (config.windows().size() > 2) refuse("windows of several widths");
  for (const LeftOut& left_out : left_out_by_transformers(config)) refuse(left_out.what);
}

void write_layers(const ModelConfig& config, Json& json) {
  const std::vector<int64_t> windows = config.windows();
  const int64_t width = *std::max_element(windows.begin(), windows.end());
  if (config.family->windows == Family::Windows::kByLayer) {
    json["layer_types"] = Json::array();
    for (const LayerSpec& layer : config.layers)
      json["layer_types"].push_back(layer.attention.window > 0 ? "sliding_attention" : "full_attention");
  } else {
    json.erase("layer_types");
  }
  // If no layer slides, the source's own keys already say so; EXAONE's other layers then depend on them.
  if (width > 0) json["sliding_window"] = width;
  if (width > 0 && json.contains("use_sliding_window")) json["use_sliding_window"] = true;
  const std::string name = config.family->model_type;
  if (name == "qwen2" || name == "qwen3") json["use_sliding_window"] = width > 0;
  if (name == "smollm3") {
    json["use_sliding_window"] = width > 0;
    json["no_rope_layers"] = Json::array();
    for (const LayerSpec& layer : config.layers) json["no_rope_layers"].push_back(layer.attention.rotates ? 1 : 0);
  }
}

}  // namespace

std::vector<LeftOut> left_out_by_transformers(const ModelConfig& config) {
  const Family& family = *config.family;
  std::vector<LeftOut> left_out;
  const std::vector<int64_t> windows = config.windows();
  const bool listed = config.source.contains("layer_types") && !config.source["layer_types"].is_null();
  if (windows.size() == 2 && family.windows != Family::Windows::kByLayer)
    left_out.push_back({listed ? "layer_types" : "max_window_layers", "sliding windows on some layers (layer_types)"});
  else if (windows.front() > 0 && family.windows == Family::Windows::kNone)
    left_out.push_back({"sliding_window", "a sliding window"});
  if (!family.can_mark_no_rope && config.any([](const LayerSpec& layer) { return !layer.attention.rotates; }))
    left_out.push_back({"no_rope_layers", "layers that do not rotate (no_rope_layers)"});
  if (config.any([](const LayerSpec& layer) { return layer.attention.sinks; }))
    left_out.push_back({"attention_sinks", "attention sinks"});
  if (config.sliding_rope && family.defaults.sliding_rope[0] == '\0')
    left_out.push_back({"sliding_attention of rope_parameters",
                        "a rotation of their own for windowed layers (rope.sliding_attention)"});
  // `proportional` rotates whole heads, some pairs by zero.
  const auto in_part = [](const RopeConfig& rope) {
    return rope.partial_rotary_factor != 1 && rope.type != RopeType::kProportional && rope.type != RopeType::kNone;
  };
  if (std::string(family.model_type) != "phi3" &&
      (in_part(config.rope) || (config.sliding_rope && in_part(*config.sliding_rope))))
    left_out.push_back({"partial_rotary_factor", "a rotation of part of each head (rope.partial_rotary_factor)"});
  return left_out;
}

bool untruncated(const ModelRope& ropes) {
  const auto is = [](const RopeConfig& rope) { return rope.type == RopeType::kYarn && !rope.truncate; };
  return is(ropes.rope) || (ropes.sliding_rope && is(*ropes.sliding_rope));
}

Json exact_rope(const ModelConfig& config) {
  const auto exact = [](const RopeConfig& of) {
    Json settings = of.settings;
    settings["rope_theta"] = of.base;
    settings["original_max_position_embeddings"] = of.original_max_position_embeddings;
    return settings;
  };
  Json settings = exact(config.rope);
  if (config.sliding_rope) settings["sliding_attention"] = exact(*config.sliding_rope);
  return settings;
}

std::string export_model_config(const ModelConfig& config, const std::string& dtype) {
  require_exportable(config);
  const RopeConfig& rope = config.rope;
  Json json = Json::parse(write_model_config(config));
  json["architectures"] = {config.family->class_name};
  json["torch_dtype"] = json["dtype"] = dtype;
  json["head_dim"] = config.head_dim;
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  if (!json.contains("pad_token_id"))
    json["pad_token_id"] = nullptr;  // the default of some classes lies beyond a small vocabulary
  write_layers(config, json);

  json["carillon_rope"] = exact_rope(config);
  const bool changed = !known_elsewhere(rope, *config.family);
  if (changed) json["max_position_embeddings"] = std::max(config.max_position_embeddings, reach_of(rope));
  const Json settings = public_form(rope, config);
  if (config.sliding_rope) {
    json["rope_parameters"] = {{"full_attention", settings},
                               {"sliding_attention", public_form(*config.sliding_rope, config)}};
    // These classes read it from the outer level.
    if (untruncated(config)) json["rope_parameters"]["truncate"] = false;
    json.erase("rope_theta");
  } else {
    json["rope_parameters"] = settings;
    json["rope_theta"] = settings["rope_theta"];
  }
  if (config.family->write != nullptr) config.family->write(config, json);
  if (!config.sliding_rope && json["rope_parameters"].value("rope_type", "default") != "default") {
    json["rope_scaling"] = json["rope_parameters"];
    json["rope_scaling"]["type"] = json["rope_parameters"]["rope_type"];
  }
  return json.dump(2);
}

double largest_rotation_deviation(const ModelConfig& original, const ModelConfig& exported, int64_t length) {
  const RopeTable ours = make_rope_table(original.rope, original.head_dim, length);
  const RopeTable theirs = make_rope_table(exported.rope, exported.head_dim, length);
  const size_t pairs = ours.inverse_frequency.size();
  double largest = 0;
  // Every position up to 4096, then increasingly sparse ones; always the last one.
  for (int64_t position = 0; position < length;) {
    std::vector<int64_t> at{position};
    std::vector<double> cosine(pairs), sine(pairs);
    fill_rotation(ours, at, Tensor::of(cosine, {1, static_cast<int64_t>(pairs)}),
                  Tensor::of(sine, {1, static_cast<int64_t>(pairs)}));
    for (size_t i = 0; i < pairs; ++i) {
      // As transformers computes it: frequency and angle in float32.
      const float angle = static_cast<float>(position) * static_cast<float>(theirs.inverse_frequency[i]);
      const float factor = static_cast<float>(theirs.attention_factor);
      largest = std::max({largest, std::abs(cosine[i] - static_cast<double>(std::cos(angle) * factor)),
                          std::abs(sine[i] - static_cast<double>(std::sin(angle) * factor))});
    }
    const int64_t next = position < 4096 ? position + 1 : position + position / 512;
    position = position < length - 1 ? std::min(next, length - 1) : length;
  }
  return largest;
}

}  // namespace carillon
