// y += left · right with a short inner dim: the product by which an adapter returns to the width of its layer. Loading
// and storing y is nearly all of the work, so each part of y is loaded and stored once.
#pragma once

#include "runtime/cpu/kernels/rows.h"
#include "runtime/cpu/kernels/tile.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

constexpr int64_t kPanelsAtOnce = 4;
template <class T>
constexpr int64_t kLine = 64 / sizeof(T);  // elements

template <class T>
void update_rows(const UpdateBlock<T>& block) {
  using A = accumulate_t<T>;
  [[maybe_unused]] const TilesInUse tiles;
  const int64_t depth = words<T>(block.inner);
  alignas(64) A sums[kStrip * kPanel];
  Block<T, A> row;
  // For a few panels, all strips one after another: the panels' right operands stay in the L1 cache, and y is read in
  // runs of several lines.
  for (int64_t group = 0; group < block.columns; group += kPanelsAtOnce * kPanel) {
    const int64_t end = least(group + kPanelsAtOnce * kPanel, block.columns);
    for (int64_t first = 0, now; first < block.rows; first += now) {
      now = strip_rows(block.rows - first);
      const Left<T> left{static_cast<const Word<T>*>(block.left) + first * depth, depth, 1};
      for (int64_t r = first + now; r < least(first + now + kStrip, block.rows); ++r)
        for (int64_t column = group; column < end; column += kLine<T>)
          __builtin_prefetch(block.y + r * block.y_stride + column, /*rw=*/1);
      for (int64_t column = group; column < end; column += kPanel) {
        const Word<T>* right = static_cast<const Word<T>*>(block.right) + column / kPanel * block.right_panel;
        strip<T>(now, kPanel, left, right, block.right_word, sums, kPanel, depth, /*add=*/false);
        const int64_t width = least(kPanel, end - column);
        for (int64_t r = 0; r < now; ++r) {
          T* y = block.y + (first + r) * block.y_stride + column;
          row.read(y, width);
          for (int64_t i = 0; i < width; ++i) row.values[i] += sums[r * kPanel + i];
          row.write(y, width);
        }
      }
    }
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
