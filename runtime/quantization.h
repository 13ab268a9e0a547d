// Matrices in 8 or 4 bits: blocks of 64 values, as they lie row by row in the whole matrix, share a scale.
//
//   int8  A value is q·s with q in −127 … 127 and s = (the block's largest magnitude) / 127, a float32: 8.5 bits a
//   value.
//
//   nf4   A value is c[q]·s: the 16 numbers c are quantiles of the normal distribution within ± 1, s is the block's
//         largest magnitude (NormalFloat, QLoRA, Dettmers et al., 2305.14314, section 3; the numbers are
//         bitsandbytes'). The scales are quantised in turn (double quantisation, there too): blocks of 256 of them, as
//         they follow one another in the whole matrix, less the mean of all, share a float32, and each is one of 256
//         numbers of 8 bits (Dettmers et al., 2110.02861: a sign, an exponent in decades, a linear fraction): 4.127
//         bits a value.
//
// Whoever holds a part of a matrix, rows or columns, holds the codes of its own values and the scales of the blocks
// these lie in, which may begin and end in somebody else's part: what a value becomes does not depend on who holds it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/tensor.h"

namespace carillon {

enum class Quantization : uint8_t { kNone, kInt8, kNf4 };
std::string_view name_of(Quantization quantization);  // "none", "int8", "nf4"

inline constexpr int64_t kQuantizedBlock = 64;  // values that share a scale
inline constexpr int64_t kScalesBlock = 256;    // scales of nf4 that share one

// The 16 numbers of nf4, and the 256 that its scales are of, in increasing order.
std::span<const float, 16> nf4_numbers();
const std::array<float, 256>& scale_numbers();

// Rows [first_row, first_row + rows) and columns [first_column, first_column + width) of a matrix of `columns` columns.
struct QuantizedMatrix {
  Quantization kind = Quantization::kNone;
  int64_t rows = 0, width = 0;
  int64_t first_row = 0, first_column = 0, columns = 0;
  // [rows·width] uint8, two's complement; of nf4 [(rows·width + 1) / 2]: two codes a byte, the first in the upper half.
  Tensor codes;
  // [rows·row_blocks()], for each row the blocks it touches one after another: float32; of nf4 uint8, a number of the
  // 256.
  Tensor scales;
  // nf4: float32, the 16 numbers, the 256, the mean, and the scales of the scales of the whole matrix (ScaleTable).
  Tensor table;

  explicit operator bool() const { return kind != Quantization::kNone; }
  int64_t flat(int64_t row) const { return (first_row + row) * columns + first_column; }  // where a row begins
  int64_t first_block(int64_t row) const { return flat(row) / kQuantizedBlock; }
  // The most blocks that a row touches.
  int64_t row_blocks() const {
    return columns % kQuantizedBlock == 0
               ? (first_column % kQuantizedBlock + width + kQuantizedBlock - 1) / kQuantizedBlock
               : (width + kQuantizedBlock - 2) / kQuantizedBlock + 1;
  }
  int64_t code_bytes() const { return kind == Quantization::kNf4 ? (rows * width + 1) / 2 : rows * width; }
};

// Of a matrix of `values` numbers: its blocks, the blocks of its scales, and the elements of `table`.
constexpr int64_t quantized_blocks(int64_t values) { return (values + kQuantizedBlock - 1) / kQuantizedBlock; }
constexpr int64_t scale_blocks(int64_t values) { return (quantized_blocks(values) + kScalesBlock - 1) / kScalesBlock; }

// Where in QuantizedMatrix::table what stands.
struct ScaleTable {
  static constexpr int64_t kNumbers = 0, kScaleNumbers = 16, kMean = 16 + 256, kScales = kMean + 1;
  static constexpr int64_t size(int64_t values) { return kScales + scale_blocks(values); }
};

// On the host: block_maxima[b] = max(itself, |values| of block b that lie in this part), for the blocks of the whole
// matrix; values [rows·width].
void take_block_maxima(const QuantizedMatrix& part, std::span<const float> values, std::span<float> block_maxima);
// Fills codes, scales and table of `part`, whose tensors are host memory, from its values and the whole matrix's
// maxima.
void quantize(const QuantizedMatrix& part, std::span<const float> values, std::span<const float> block_maxima);

// The scale of nf4 that code `code` of block `block` stands for; formed so that contraction to a fused product changes
// no bit (a product of two float32 is exact in float64).
inline float nf4_scale(const float* table, uint8_t code, int64_t block) {
  const double number = table[ScaleTable::kScaleNumbers + code],
               scale = table[ScaleTable::kScales + block / kScalesBlock];
  return static_cast<float>(number * scale + static_cast<double>(table[ScaleTable::kMean]));
}

}  // namespace carillon
