#include "launch/session/gguf_rope.h"

#include <algorithm>
#include <cmath>

#include "model/rope.h"

namespace carillon {
namespace {

// Divisor of a pair that does not rotate: so large that no position moves it.
constexpr float kStill = 1e30f;

bool follows_length(const RopeConfig& rope) {
  if (rope.length || !rope.follows_length()) return false;
  return rope.type != RopeType::kLongRope || rope.short_factor != rope.long_factor;
}

double yarn_temperature(double factor) { return factor <= 1 ? 1 : 1 + 0.1 * std::log(factor); }

// Whether these frequencies are those of YaRN's default ramp: llama.cpp reads keys for others in few architectures
// only.
bool is_plain_yarn(const RopeConfig& rope, const RopeTable& table, int64_t head_dim) {
  RopeConfig plain = rope;
  plain.beta_fast = 32, plain.beta_slow = 1, plain.truncate = true, plain.wavelength_blend = false;
  const RopeTable wanted = make_rope_table(plain, head_dim, rope.original_max_position_embeddings);
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i)
    if (std::abs(table.inverse_frequency[i] / wanted.inverse_frequency[i] - 1) > 1e-12) return false;
  return true;
}

struct Turn {
  float cosine, sine;
};
// As ggml computes it: position · scaleⁱ by repeated float32 products, then divisor, interpolation and attention
// factor.
std::vector<Turn> llama_cpp_rotation(const GgufRope& keys, int64_t head_dim, int64_t position) {
  const auto width = static_cast<float>(head_dim), base = static_cast<float>(keys.base);
  const float step = std::pow(base, -2.0f / width);
  const float scale = keys.type == "none" ? 1.0f : 1.0f / static_cast<float>(keys.factor);
  const auto end_of_ramp = [&](double turns) {
    return width *
           std::log(static_cast<float>(keys.original_length) /
                    (static_cast<float>(turns) * 2 * static_cast<float>(M_PI))) /
           (2 * std::log(base));
  };
  const float low = std::max(0.0f, std::floor(end_of_ramp(32)));
  const float high = std::min(width - 1, std::ceil(end_of_ramp(1)));
  std::vector<Turn> turns;
  auto angle = static_cast<float>(position);
  for (int64_t pair = 0; pair < head_dim / 2; ++pair, angle *= step) {
    const float plain = keys.divisors.empty() ? angle : angle / keys.divisors[static_cast<size_t>(pair)];
    float turned = scale * plain, factor = static_cast<float>(keys.attention_factor);
    if (keys.type == "yarn") {
      const float interpolated =
          std::clamp((static_cast<float>(pair) - low) / std::max(0.001f, high - low), 0.0f, 1.0f);
      turned = turned * interpolated + plain * (1 - interpolated);
      factor *= 1 + 0.1f * std::log(1 / scale);
    }
    turns.push_back({std::cos(turned) * factor, std::sin(turned) * factor});
  }
  return turns;
}

}  // namespace

GgufRope gguf_rope_divisors(const RopeConfig& rope, int64_t head_dim) {
  if (follows_length(rope))
    fail(ExitCode::kUsage,
         "rope type {} goes by the length of the text, which llama.cpp's rotation does not, export format=gguf, train "
         "with rope.length or another type",
         name_of(rope.type));
  const RopeTable table = make_rope_table(rope, head_dim, rope.original_max_position_embeddings);
  GgufRope keys;
  keys.base = rope.base;
  keys.attention_factor = table.attention_factor;
  bool plain = true;
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i) {
    const double frequency = std::pow(rope.base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double turning = table.inverse_frequency[i];
    keys.divisors.push_back(turning == 0 ? kStill : static_cast<float>(frequency / turning));
    plain = plain && keys.divisors.back() == 1;
  }
  if (plain) keys.divisors.clear();
  if (!plain || keys.attention_factor != 1) keys.type = "none";
  return keys;
}

std::optional<GgufRope> gguf_rope_keys(const RopeConfig& rope, int64_t head_dim) {
  if (rope.resonance || rope.cope > 0 || follows_length(rope)) return std::nullopt;
  const RopeTable table = make_rope_table(rope, head_dim, rope.original_max_position_embeddings);
  GgufRope keys;
  keys.base = rope.base;
  keys.attention_factor = table.attention_factor;
  switch (rope.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kNtk:
    case RopeType::kDynamic:  // with alpha: another base, like ntk
      keys.base = std::pow(table.inverse_frequency.at(1), -static_cast<double>(head_dim) / 2);
      break;
    case RopeType::kLinear:
      keys.type = "linear";
      keys.factor = rope.factor;
      return keys;
    case RopeType::kYarn:
      if (!is_plain_yarn(rope, table, head_dim)) return std::nullopt;
      keys.type = "yarn";
      keys.factor = rope.factor;
      keys.original_length = rope.original_max_position_embeddings;
      keys.attention_factor = table.attention_factor / yarn_temperature(rope.factor);
      if (std::abs(keys.attention_factor - 1) < 1e-12) keys.attention_factor = 1;
      return keys;
    default:
      return std::nullopt;
  }
  if (keys.attention_factor != 1) keys.type = "none";
  return keys;
}

double gguf_rope_deviation(const GgufRope& keys, const RopeConfig& rope, int64_t head_dim, int64_t length) {
  const RopeTable table = make_rope_table(rope, head_dim, rope.original_max_position_embeddings);
  const auto pairs = static_cast<int64_t>(table.inverse_frequency.size());
  double largest = 0;
  // Every position up to 4096, then increasingly sparse ones; always the last one.
  for (int64_t position = 0; position < length;) {
    const std::vector<Turn> theirs = llama_cpp_rotation(keys, head_dim, position);
    std::vector<double> cosine(static_cast<size_t>(pairs)), sine(static_cast<size_t>(pairs));
    const std::vector<int64_t> at{position};
    fill_rotation(table, at, Tensor::of(cosine, {1, pairs}), Tensor::of(sine, {1, pairs}));
    for (size_t i = 0; i < cosine.size(); ++i)
      largest = std::max({largest, std::abs(cosine[i] - static_cast<double>(theirs[i].cosine)),
                          std::abs(sine[i] - static_cast<double>(theirs[i].sine))});
    const int64_t next = position < 4096 ? position + 1 : position + position / 512;
    position = position < length - 1 ? std::min(next, length - 1) : length;
  }
  return largest;
}

}  // namespace carillon
