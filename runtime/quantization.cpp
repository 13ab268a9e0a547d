#include "runtime/quantization.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace carillon {
namespace {

// The index of the number nearest to `value`; the lower one if two are equally near.
template <size_t kCount>
size_t nearest(std::span<const float, kCount> numbers, float value) {
  const auto above = std::lower_bound(numbers.begin(), numbers.end(), value);
  if (above == numbers.begin()) return 0;
  if (above == numbers.end()) return kCount - 1;
  const auto index = static_cast<size_t>(above - numbers.begin());
  const double up = static_cast<double>(*above) - static_cast<double>(value);
  const double down = static_cast<double>(value) - static_cast<double>(numbers[index - 1]);
  return up < down ? index : index - 1;
}

// The seven decades that end at 1e-6, 1e-5 … 1, with 1, 2, 4 … 64 numbers of each sign; also zero and one.
std::array<float, 256> make_scale_numbers() {
  std::array<float, 256> numbers{};
  size_t next = 0;
  for (int decade = 0; decade < 7; ++decade) {
    const int items = 1 << decade;
    for (int i = 0; i < items; ++i) {
      // The middle of the i-th of `items` equal parts of [0.1, 1].
      const double middle = 0.1 + 0.9 * (i + 0.5) / items;
      const auto number = static_cast<float>(std::pow(10.0, decade - 6) * middle);
      numbers[next++] = number;
      numbers[next++] = -number;
    }
  }
  numbers[next++] = 0;
  numbers[next++] = 1;
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// Returns the codes of the nf4 scales of the whole matrix, and fills the table.
std::vector<uint8_t> quantize_scales(std::span<const float> maxima, std::span<float> table) {
  const std::array<float, 256>& numbers = scale_numbers();
  std::copy(nf4_numbers().begin(), nf4_numbers().end(), table.begin());
  std::copy(numbers.begin(), numbers.end(), table.begin() + ScaleTable::kScaleNumbers);
  double sum = 0;
  for (const float maximum : maxima) sum += static_cast<double>(maximum);
  const auto mean = static_cast<float>(maxima.empty() ? 0 : sum / static_cast<double>(maxima.size()));
  table[ScaleTable::kMean] = mean;
  std::vector<uint8_t> codes(maxima.size());
  for (size_t begin = 0, group = 0; begin < maxima.size(); begin += kScalesBlock, ++group) {
    const size_t end = std::min(maxima.size(), begin + kScalesBlock);
    float largest = 0;
    for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(maxima[i] - mean));
    table[ScaleTable::kScales + group] = largest;
    for (size_t i = begin; i < end; ++i)
      codes[i] = static_cast<uint8_t>(
          nearest(std::span<const float, 256>(numbers), largest == 0 ? 0 : (maxima[i] - mean) / largest));
  }
  return codes;
}

}  // namespace

std::string_view name_of(Quantization quantization) {
  switch (quantization) {
    case Quantization::kNone:
      return "none";
    case Quantization::kInt8:
      return "int8";
    case Quantization::kNf4:
      return "nf4";
  }
  return "unknown";
}

std::span<const float, 16> nf4_numbers() {
  static constexpr std::array<float, 16> kNumbers{-1.0F,
                                                  -0.6961928009986877F,
                                                  -0.5250730514526367F,
                                                  -0.39491748809814453F,
                                                  -0.28444138169288635F,
                                                  -0.18477343022823334F,
                                                  -0.09105003625154495F,
                                                  0.0F,
                                                  0.07958029955625534F,
                                                  0.16093020141124725F,
                                                  0.24611230194568634F,
                                                  0.33791524171829224F,
                                                  0.44070982933044434F,
                                                  0.5626170039176941F,
                                                  0.7229568362236023F,
                                                  1.0F};
  return kNumbers;
}

const std::array<float, 256>& scale_numbers() {
  static const std::array<float, 256> numbers = make_scale_numbers();
  return numbers;
}

void take_block_maxima(const QuantizedMatrix& part, std::span<const float> values, std::span<float> block_maxima) {
  for (int64_t row = 0; row < part.rows; ++row)
    for (int64_t column = 0; column < part.width; ++column) {
      float& maximum = block_maxima[static_cast<size_t>((part.flat(row) + column) / kQuantizedBlock)];
      maximum = std::max(maximum, std::abs(values[static_cast<size_t>(row * part.width + column)]));
    }
}

void quantize(const QuantizedMatrix& part, std::span<const float> values, std::span<const float> block_maxima) {
  const bool nf4 = part.kind == Quantization::kNf4;
  CHECK(static_cast<int64_t>(values.size()) == part.rows * part.width && part.codes.count() == part.code_bytes(),
        "a quantised part and its values", values.size(), describe(part.codes));
  std::vector<uint8_t> scale_codes;
  if (nf4) scale_codes = quantize_scales(block_maxima, part.table.span<float>());
  auto* codes = part.codes.data<uint8_t>();
  for (int64_t row = 0; row < part.rows; ++row) {
    const int64_t flat = part.flat(row), first = part.first_block(row), blocks = part.row_blocks();
    for (int64_t block = first; block <= (flat + part.width - 1) / kQuantizedBlock; ++block) {
      const int64_t at = row * blocks + block - first;
      if (nf4)
        part.scales.data<uint8_t>()[at] = scale_codes[static_cast<size_t>(block)];
      else
        part.scales.data<float>()[at] = block_maxima[static_cast<size_t>(block)] / 127;
    }
    for (int64_t column = 0; column < part.width; ++column) {
      const int64_t at = row * part.width + column;
      const float value = values[static_cast<size_t>(at)];
      const float maximum = block_maxima[static_cast<size_t>((flat + column) / kQuantizedBlock)];
      if (nf4) {
        const auto code = static_cast<uint8_t>(nearest(nf4_numbers(), maximum == 0 ? 0 : value / maximum));
        uint8_t& byte = codes[at / 2];
        byte = at % 2 == 0 ? static_cast<uint8_t>(code << 4) : static_cast<uint8_t>((byte & 0xf0) | code);
      } else {
        const float scale = maximum / 127;
        const float code = scale == 0 ? 0 : std::clamp(std::nearbyint(value / scale), -127.0F, 127.0F);
        codes[at] = static_cast<uint8_t>(static_cast<int8_t>(code));
      }
    }
  }
}

}  // namespace carillon
