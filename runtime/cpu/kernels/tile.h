// The register tile all products of attention go through: CARILLON_TILE_ROWS rows by CARILLON_TILE_VECTORS vectors. A
// strip is as many rows, a panel (kernels.h) is a multiple of its columns; what a mask hides is left out by whole ones.
#pragma once

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

constexpr int kStrip = CARILLON_TILE_ROWS;
static_assert(kStrip % 2 == 0, "rows of a strip are stored in pairs");
constexpr int kTileVectors = CARILLON_TILE_VECTORS;
static_assert(kTileVectors % 2 == 0, "vectors of results become operands in pairs");
template <class A>
constexpr int64_t kTileWidth = kTileVectors* Lanes<A>::kCount;

constexpr double kLog2E = 1.4426950408889634;

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
using Word = typename Operand<T>::Word;
template <class T>
inline int64_t words(int64_t elements) {
  return (elements + Operand<T>::kDepth - 1) / Operand<T>::kDepth;
}

// One operand of a product: the word of row r and inner index k stands at data[r·row + k·inner]. Not an argument of a
// function that is called: the compiler would copy it by vectors, which queue behind the products of the tile before.
template <class T>
struct Left {
  const Word<T>* data;
  int64_t row;
  int64_t inner;
};

// Hands finish the sums Σ_k left(r, k) · b[k·b_stride + …], k counting words, as sum[R][kTileVectors] while they are in
// registers: what is done with them there runs beside the next tile's products. The loops over the tile are unrolled by
// order: else the compiler keeps the sums in memory.
template <class T, int R, class Finish>
__attribute__((always_inline)) inline void tile(Left<T> left, const Word<T>* b, int64_t b_stride, int64_t depth,
                                                Finish finish) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  Vector<A> sum[R][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) sum[r][v] = Vector<A>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<A> column[kTileVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) column[v] = load(reinterpret_cast<const A*>(b + k * b_stride) + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Word<T> value = left.data[r * left.row + k * left.inner];
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) sum[r][v] = Operand<T>::multiply_add(value, column[v], sum[r][v]);
    }
  }
  finish(sum);
}

template <class T, int R>
using TileSums = Vector<accumulate_t<T>> (&)[R][kTileVectors];

// c[R][width] (+)= the product.
template <class T, int R>
__attribute__((noinline)) void tile_product(const Word<T>* left, int64_t left_row, int64_t left_inner, const Word<T>* b,
                                            int64_t b_stride, accumulate_t<T>* c, int64_t c_stride, int64_t depth,
                                            bool add) {
  tile<T, R>(
      {left, left_row, left_inner}, b, b_stride, depth, [=](TileSums<T, R> sum) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; ++v) {
            accumulate_t<T>* to = c + r * c_stride + v * Lanes<accumulate_t<T>>::kCount;
            store(to, add ? load(to) + sum[r][v] : sum[r][v]);
          }
      });
}

// The same for `rows` <= R rows and kPanel columns.
template <class T, int R = kStrip>
__attribute__((always_inline)) inline void strip(int64_t rows, Left<T> left, const Word<T>* b, int64_t b_stride,
                                                 accumulate_t<T>* c, int64_t c_stride, int64_t depth, bool add) {
  constexpr int64_t kWidth = kTileWidth<accumulate_t<T>>;
  static_assert(kPanel % kWidth == 0);
  if (rows == R) {
    for (int64_t column = 0; column < kPanel; column += kWidth)
      tile_product<T, R>(left.data, left.row, left.inner, b + column, b_stride, c + column, c_stride, depth, add);
  } else if constexpr (R > 1) {
    strip<T, R - 1>(rows, left, b, b_stride, c, c_stride, depth, add);
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
