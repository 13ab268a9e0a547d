// Strips: products of a few rows by any number of columns, tile by tile.
#pragma once

#include "runtime/cpu/kernels/tile_shape.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// The number of rows of the next strip if `rows` rows remain.
inline int64_t strip_rows(int64_t rows) {
  int strip = kStrip;
  while (strip > rows) strip = fewer_rows(strip);
  return strip;
}

// The number of vectors of the next tile if `left` vectors remain. Chosen to give few tiles and to avoid tiles so
// narrow that they stall on their own sums (5 = 3 + 2, 6 = 3 + 3).
inline int64_t tile_vectors(int64_t left) {
  if constexpr (kTileVectors == 2) return 2;
  return left == 4 || left > 6 ? 4 : left > 4 ? 3 : left;
}

// c[rows][columns] (+)= the product; `rows` comes from strip_rows(), `columns` is a multiple of kColumns.
template <class T, int R = kStrip>
__attribute__((always_inline)) inline void strip(int64_t rows, int64_t columns, Left<T> left, const Word<T>* b,
                                                 int64_t b_stride, accumulate_t<T>* c, int64_t c_stride, int64_t depth,
                                                 bool add) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  static_assert(kPanel % kTileWidth<A> == 0 && (kColumns % kTileWidth<A> == 0 || kTileVectors == 4));
  if (rows == R) {
    for (int64_t vectors = columns / kLanes, now; vectors > 0; vectors -= now, b += now * kLanes, c += now * kLanes) {
      now = tile_vectors(vectors);
      if (now == kTileVectors)
        tile_product<T, R>(left.data, left.row, left.inner, b, b_stride, c, c_stride, depth, add);
      else if constexpr (kTileVectors == 4) {
        if (now == 3)
          tile_product<T, R, 3>(left.data, left.row, left.inner, b, b_stride, c, c_stride, depth, add);
        else if (now == 2)
          tile_product<T, R, 2>(left.data, left.row, left.inner, b, b_stride, c, c_stride, depth, add);
        else
          tile_product<T, R, 1>(left.data, left.row, left.inner, b, b_stride, c, c_stride, depth, add);
      }
    }
  } else if constexpr (R > 1) {
    strip<T, fewer_rows(R)>(rows, columns, left, b, b_stride, c, c_stride, depth, add);
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
