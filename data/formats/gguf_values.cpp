#include "data/formats/gguf_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/check.h"
#include "runtime/dtype.h"

namespace carillon {
namespace {

void append(std::string& bytes, const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); }

bool infinite(uint16_t half) { return (half & 0x7FFF) == 0x7C00; }

std::optional<float> append_halves(std::span<const float> values, std::string& bytes) {
  std::optional<float> beyond;
  for (const float value : values) {
    const uint16_t half = float16_bits(value);
    if (infinite(half) && !beyond) beyond = value;
    append(bytes, &half, sizeof half);
  }
  return beyond;
}

std::optional<float> append_blocks(std::span<const float> values, std::string& bytes) {
  CHECK(values.size() % 32 == 0, "blocks of Q8_0 have 32 values", values.size());
  std::optional<float> beyond;
  for (size_t begin = 0; begin < values.size(); begin += 32) {
    const auto block = values.subspan(begin, 32);
    float largest = 0;
    for (const float value : block) largest = std::max(largest, std::abs(value));
    const float scale = largest / 127, inverse = scale == 0 ? 0 : 1 / scale;
    const uint16_t half = float16_bits(scale);
    if (infinite(half) && !beyond) beyond = largest;
    append(bytes, &half, sizeof half);
    for (const float value : block) bytes.push_back(static_cast<char>(std::lround(value * inverse)));
  }
  return beyond;
}

}  // namespace

uint16_t float16_bits(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value), sign = word >> 16 & 0x8000;
  const float size = std::abs(value);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7E00);
  if (size >= 65520) return static_cast<uint16_t>(sign | 0x7C00);  // from half way to 65536 on, rounds to infinity
  if (size < 0x1p-14f) {
    // Subnormal: a multiple of 2^-24. Adding 0.5 in float32 leaves exactly that many bits after the point.
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(size + 0.5f) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t bits = std::bit_cast<uint32_t>(size);
  const uint32_t rounded = bits + 0xFFF + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

std::optional<float> append_as(GgufType type, std::span<const float> values, std::string& bytes) {
  switch (type) {
    case GgufType::kF32:
      append(bytes, values.data(), values.size_bytes());
      return std::nullopt;
    case GgufType::kBF16:
      for (const float value : values) {
        const bfloat16 rounded(value);
        append(bytes, &rounded.bits, sizeof rounded.bits);
      }
      return std::nullopt;
    case GgufType::kF16:
      return append_halves(values, bytes);
    case GgufType::kQ8_0:
      return append_blocks(values, bytes);
  }
  throw InternalError("no such GGUF type");
}

void interleave_halves(std::span<float> rows, int64_t head, int64_t columns) {
  const auto width = static_cast<size_t>(columns), size = static_cast<size_t>(head) * width;
  CHECK(size > 0 && head % 2 == 0 && rows.size() % size == 0, "whole heads of pairs", rows.size(), head, columns);
  std::vector<float> turned(size);
  for (size_t begin = 0; begin < rows.size(); begin += size) {
    for (size_t row = 0; row < static_cast<size_t>(head); ++row) {
      const size_t from = row / 2 + (row % 2) * static_cast<size_t>(head) / 2;
      std::copy_n(&rows[begin + from * width], width, &turned[row * width]);
    }
    std::copy(turned.begin(), turned.end(), &rows[begin]);
  }
}

}  // namespace carillon
