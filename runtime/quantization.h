// Matrices in 8 or 4 bits. Blocks of 64 values, consecutive in the row-major order of the whole matrix, share a scale.
//
//   int8  A value is q·s with q in −127 … 127 and s = (largest magnitude of the block) / 127 in float32: 8.5 bits per
//         value.
//
//   nf4   A value is c[q]·s: the 16 numbers c are quantiles of the normal distribution scaled to ± 1, s is the largest
//         magnitude of the block (NormalFloat, QLoRA, Dettmers et al., 2305.14314, section 3; the numbers are those of
//         bitsandbytes). The scales are quantised too (double quantisation, same paper): the mean of all scales is
//         subtracted, 256 consecutive ones share a float32 factor, and each becomes one of 256 numbers in 8 bits
//         (Dettmers et al., 2110.02861: a sign, an exponent in decades, a linear fraction): 4.127 bits per value.
//
// A rank that holds part of a matrix (rows or columns) stores the codes of its own values and the scales of the blocks
// that these lie in. Such a block may begin or end in another rank's part, so a value is quantised the same way however
// the matrix is split.
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
inline constexpr int64_t kScalesBlock = 256;    // nf4 scales that share a factor

// The 16 numbers of nf4, and the 256 numbers of its quantised scales, in increasing order.
std::span<const float, 16> nf4_numbers();
const std::array<float, 256>& scale_numbers();

// Rows [first_row, first_row + rows) and columns [first_column, first_column + width) of a matrix of `columns` columns.
struct QuantizedMatrix {
  Quantization kind = Quantization::kNone;
  int64_t rows = 0, width = 0;
  int64_t first_row = 0, first_column = 0, columns = 0;
  // int8: [rows·width] uint8, two's complement. nf4: [(rows·width + 1) / 2], two codes per byte, the first one in the
  // upper half.
  Tensor codes;
  // [rows·row_blocks()], for each row the scales of the blocks it touches. int8: float32; nf4: uint8, an index into the
  // 256 numbers.
  Tensor scales;
  // nf4 only, float32: the 16 numbers, the 256, the mean, and the factors of all scales of the matrix (ScaleTable).
  Tensor table;

  explicit operator bool() const { return kind != Quantization::kNone; }
  int64_t flat(int64_t row) const { return (first_row + row) * columns + first_column; }  // where a row begins
  int64_t first_block(int64_t row) const { return flat(row) / kQuantizedBlock; }
  // The maximum number of blocks that a row touches.
  int64_t row_blocks() const {
    return columns % kQuantizedBlock == 0
               ? (first_column % kQuantizedBlock + width + kQuantizedBlock - 1) / kQuantizedBlock
               : (width + kQuantizedBlock - 2) / kQuantizedBlock + 1;
  }
  int64_t code_bytes() const { return kind == Quantization::kNf4 ? (rows * width + 1) / 2 : rows * width; }
};

// For a matrix of `values` numbers: the number of its blocks, and of the blocks of its scales.
constexpr int64_t quantized_blocks(int64_t values) { return (values + kQuantizedBlock - 1) / kQuantizedBlock; }
constexpr int64_t scale_blocks(int64_t values) { return (quantized_blocks(values) + kScalesBlock - 1) / kScalesBlock; }

// Offsets in QuantizedMatrix::table, and its number of elements for a matrix of `values` numbers.
struct ScaleTable {
  static constexpr int64_t kNumbers = 0, kScaleNumbers = 16, kMean = 16 + 256, kScales = kMean + 1;
  static constexpr int64_t size(int64_t values) { return kScales + scale_blocks(values); }
};

// On the host: raises block_maxima[b] to the largest |value| of block b within this part. values [rows·width];
// block_maxima has an entry for each block of the whole matrix.
void take_block_maxima(const QuantizedMatrix& part, std::span<const float> values, std::span<float> block_maxima);
// Fills codes, scales and table of `part`, whose tensors are host memory, from its values and the block maxima of the
// whole matrix.
void quantize(const QuantizedMatrix& part, std::span<const float> values, std::span<const float> block_maxima);

// The nf4 scale of block `block`, from its code. Computed in float64, where a product of two float32 is exact, so that
// contraction to a fused multiply-add changes no bit.
inline float nf4_scale(const float* table, uint8_t code, int64_t block) {
  const double number = table[ScaleTable::kScaleNumbers + code],
               scale = table[ScaleTable::kScales + block / kScalesBlock];
  return static_cast<float>(number * scale + static_cast<double>(table[ScaleTable::kMean]));
}

}  // namespace carillon
