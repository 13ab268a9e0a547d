#include "model/export_config.h"

#include <algorithm>
#include <cmath>

#include "model/rope.h"

namespace carillon {
namespace {

bool known_elsewhere(const RopeConfig& rope) {
  if (rope.resonance) return false;
  switch (rope.type) {
    case RopeType::kNtk:
    case RopeType::kNtkByParts:
    case RopeType::kYarn:
      return false;
    default:
      return true;
  }
}

// The divisors that turn the plain frequencies of this base into the table's.
std::vector<double> factors_of(const RopeConfig& rope, int64_t head_dim, int64_t length) {
  const RopeTable table = make_rope_table(rope, head_dim, length);
  const int64_t width = 2 * static_cast<int64_t>(table.inverse_frequency.size());
  std::vector<double> factors;
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i)
    factors.push_back(std::pow(rope.base, -2.0 * static_cast<double>(i) / static_cast<double>(width)) /
                      table.inverse_frequency[i]);
  return factors;
}

Json as_longrope(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const int64_t original = rope.original_max_position_embeddings;
  const bool two_lists = rope.type == RopeType::kLongRope;
  const double attention = make_rope_table(rope, config.head_dim, original).attention_factor;
  Json settings = {{"rope_type", "longrope"},
                   {"type", "longrope"},
                   {"rope_theta", rope.base},
                   {"factor", std::max(rope.factor, 1.0)},
                   {"original_max_position_embeddings", original},
                   {"attention_factor", attention},
                   {"short_factor", factors_of(rope, config.head_dim, original)},
                   {"long_factor", factors_of(rope, config.head_dim, two_lists ? original + 1 : original)},
                   {"short_mscale", attention},
                   {"long_mscale", attention}};
  if (rope.partial_rotary_factor != 1) settings["partial_rotary_factor"] = rope.partial_rotary_factor;
  return settings;
}

}  // namespace

std::string export_model_config(const ModelConfig& config, const std::string& dtype) {
  const RopeConfig& rope = config.rope;
  if (rope.resonance && (rope.type == RopeType::kDynamic || rope.type == RopeType::kProportional))
    fail(ExitCode::kUsage,
         "resonance over {} has no form that transformers reads, export, train with another rope.type or without "
         "resonance",
         name_of(rope.type));
  Json json = Json::parse(write_model_config(config));
  if (!json.contains("architectures")) {
    constexpr const char* kClasses[] = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM",
                                        "Qwen3ForCausalLM"};
    json["architectures"] = {kClasses[static_cast<int>(config.architecture)]};
  }
  json["torch_dtype"] = json["dtype"] = dtype;
  json["head_dim"] = config.head_dim;
  Json exact = rope.settings;
  exact["rope_theta"] = rope.base;
  exact["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  if (!known_elsewhere(rope)) {
    Json settings;
    if (rope.type == RopeType::kNtk && !rope.resonance) {
      // ntk is a change of base and nothing else: θ_1 of the table tells which.
      const RopeTable table = make_rope_table(rope, config.head_dim, rope.original_max_position_embeddings);
      const double width = 2.0 * static_cast<double>(table.inverse_frequency.size());
      settings = {{"rope_type", "default"}, {"rope_theta", std::pow(table.inverse_frequency[1], -width / 2)}};
    } else {
      settings = as_longrope(config);
    }
    json["rope_parameters"] = settings;
    json["rope_theta"] = settings["rope_theta"];
    if (settings["rope_type"] != "default") json["rope_scaling"] = settings;
    const auto reach = static_cast<int64_t>(rope.factor * static_cast<double>(rope.original_max_position_embeddings));
    json["max_position_embeddings"] = std::max(config.max_position_embeddings, reach);
  } else if (rope.type != RopeType::kDefault) {
    json["rope_scaling"] = json["rope_parameters"];
    json["rope_scaling"]["type"] = name_of(rope.type);
  }
  json["carillon_rope"] = exact;
  return json.dump(2);
}

double largest_rotation_deviation(const ModelConfig& original, const ModelConfig& exported, int64_t length) {
  const RopeTable ours = make_rope_table(original.rope, original.head_dim, length);
  const RopeTable theirs = make_rope_table(exported.rope, exported.head_dim, length);
  const size_t pairs = ours.inverse_frequency.size();
  double largest = 0;
  // Every position up to 4096, then ever sparser ones; the last one always.
  for (int64_t position = 0; position < length;) {
    std::vector<int64_t> at{position};
    std::vector<double> cosine(pairs), sine(pairs);
    fill_rotation(ours, at, Tensor::of(cosine, {1, static_cast<int64_t>(pairs)}),
                  Tensor::of(sine, {1, static_cast<int64_t>(pairs)}));
    for (size_t i = 0; i < pairs; ++i) {
      // As transformers does it: frequency and angle in float32.
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
