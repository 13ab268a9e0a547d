// Quantised matrices: their values, errors bounded by the scales of the blocks, parts that equal those of the whole,
// and every backend bit for bit like the reference. (Against bitsandbytes: tests/golden/quantization_test.py.)
#include "runtime/quantization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/rng.h"
#include "tests/support/op_test.h"

namespace carillon::testing {
namespace {

struct Part {
  int64_t first_row, rows, first_column, width;
};

// A part of a matrix with its memory on a backend.
struct Quantized {
  Quantized(Backend& backend, Quantization kind, int64_t columns, const Part& part, std::span<const float> values,
            std::span<const float> maxima, int64_t total) {
    matrix.kind = kind;
    matrix.rows = part.rows, matrix.width = part.width;
    matrix.first_row = part.first_row, matrix.first_column = part.first_column, matrix.columns = columns;
    const bool nf4 = kind == Quantization::kNf4;
    codes.resize(static_cast<size_t>(matrix.code_bytes()));
    scales.resize(static_cast<size_t>(part.rows * matrix.row_blocks()) * (nf4 ? 1 : 4));
    table.resize(nf4 ? static_cast<size_t>(ScaleTable::size(total)) : 0);
    QuantizedMatrix host = matrix;
    host.codes = Tensor::of(codes, {matrix.code_bytes()});
    host.scales = Tensor(scales.data(), nf4 ? DType::kUInt8 : DType::kFloat32, {part.rows * matrix.row_blocks()});
    if (nf4) host.table = Tensor::of(table, {ScaleTable::size(total)});
    quantize(host, values, maxima);
    size_t at = 0;
    memory = backend.allocate(codes.size() + scales.size() + table.size() * 4 + 512);
    const auto put = [&](const Tensor& from, Tensor& to) {
      if (!from) return;
      to = from.over(static_cast<char*>(memory.data()) + at);
      at += (from.bytes() + 63) / 64 * 64;
      backend.upload(to, from);
    };
    put(host.codes, matrix.codes), put(host.scales, matrix.scales), put(host.table, matrix.table);
  }
  QuantizedMatrix matrix;
  std::vector<uint8_t> codes;
  std::vector<char> scales;
  std::vector<float> table;
  Buffer memory;
};

struct Whole {
  Whole(int64_t row_count, int64_t column_count)
      : rows(row_count), columns(column_count), values(static_cast<size_t>(rows * columns)) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(0.1 * random_normal(7, 1, i));
    // One block of zeros, and one with much larger values than the others.
    for (size_t i = 0; i < values.size() && i < 130; ++i) values[i] = i < 64 ? 0 : 40 * values[i];
    maxima.resize(static_cast<size_t>(quantized_blocks(rows * columns)));
    take_block_maxima(shape({0, rows, 0, columns}), values, maxima);
  }
  QuantizedMatrix shape(const Part& part) const {
    QuantizedMatrix matrix;
    matrix.rows = part.rows, matrix.width = part.width;
    matrix.first_row = part.first_row, matrix.first_column = part.first_column, matrix.columns = columns;
    return matrix;
  }
  std::vector<float> part(const Part& part) const {
    std::vector<float> result;
    for (int64_t row = part.first_row; row < part.first_row + part.rows; ++row)
      for (int64_t column = part.first_column; column < part.first_column + part.width; ++column)
        result.push_back(values[static_cast<size_t>(row * columns + column)]);
    return result;
  }
  int64_t rows, columns;
  std::vector<float> values, maxima;
};

TEST(Quantization, TheNumbersAreInOrderAndWithinOne) {
  const auto numbers = nf4_numbers();
  EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  EXPECT_EQ(numbers.front(), -1);
  EXPECT_EQ(numbers[7], 0);
  EXPECT_EQ(numbers.back(), 1);
  const auto& scales = scale_numbers();
  for (size_t i = 1; i < scales.size(); ++i) EXPECT_LT(scales[i - 1], scales[i]) << i;
  EXPECT_EQ(scales.back(), 1);
  EXPECT_EQ(scales[127], 0);
  EXPECT_NEAR(scales.front(), -(1 - 0.9 / 128), 1e-7);
}

TEST(Quantization, ErrorsAreWithinHalfAStep) {
  const auto reference = make_backend({.device = "reference"});
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{300, 96}, {70, 65}, {3, 7}, {1, 1}}) {
    const Whole whole(rows, columns);
    const Part all{0, rows, 0, columns};
    for (const Quantization kind : {Quantization::kInt8, Quantization::kNf4}) {
      const Quantized quantized(*reference, kind, columns, all, whole.values, whole.maxima, rows * columns);
      std::vector<double> back(whole.values.size());
      reference->dequantize(Tensor::of(back, {rows, columns}), quantized.matrix);
      for (size_t i = 0; i < back.size(); ++i) {
        const double largest = whole.maxima[i / kQuantizedBlock];
        // The widest gap of nf4 is 1 − 0.696, and its scale is off by at most half a step of 8 bits over the range of
        // its group.
        double range = 0;
        for (const float maximum : whole.maxima) range = std::max<double>(range, maximum);
        const double bound = kind == Quantization::kInt8 ? largest / 254 : 0.153 * largest + 0.005 * range;
        EXPECT_LE(std::abs(back[i] - whole.values[i]), bound * (1 + 1e-5)) << name_of(kind) << " " << i;
      }
    }
  }
}

class QuantizationOps : public OpTest {};

TEST_P(QuantizationOps, PartsAreWhatTheWholeIs) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{20, 128}, {23, 70}, {9, 300}, {5, 33}}) {
    const Whole whole(rows, columns);
    for (const Quantization kind : {Quantization::kInt8, Quantization::kNf4}) {
      const Part all{0, rows, 0, columns};
      const Quantized quantized(*reference_, kind, columns, all, whole.values, whole.maxima, rows * columns);
      const RandomTensor expected(type_, {rows, columns}, 1);
      reference_->dequantize(expected, quantized.matrix);
      for (const Part& part : {all, Part{3, 2, 0, columns}, Part{0, rows, 5, columns - 9}, Part{1, 4, columns / 2, 3},
                               Part{2, 1, columns - 1, 1}})
        for (const int64_t gap : {0, 8}) {
          const std::vector<float> values = whole.part(part);
          // The maximum of a block includes the elements of other ranks, so the maximum of this part is at most as
          // large.
          std::vector<float> own(whole.maxima.size());
          take_block_maxima(whole.shape(part), values, own);
          for (size_t block = 0; block < own.size(); ++block) EXPECT_LE(own[block], whole.maxima[block]);
          const Quantized held(*fast_, kind, columns, part, values, whole.maxima, rows * columns);
          const RandomTensor y(type_, {part.rows, part.width}, 2, gap);
          fast_->dequantize(y, held.matrix);
          const Tensor there = expected.tensor()
                                   .rows(part.first_row, part.first_row + part.rows)
                                   .slice(1, part.first_column, part.first_column + part.width);
          EXPECT_EQ(values_of(y), values_of(there)) << name_of(kind) << " " << rows << " " << columns << " "
                                                    << part.first_row << " " << part.first_column << " " << part.width;
        }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, QuantizationOps, ::testing::ValuesIn(kinds()), [](const auto& kind) {
  return std::string(name_of(kind.param.dtype)) + "_" + kind.param.device;
});

}  // namespace
}  // namespace carillon::testing
