// Products of tiles whose sums stay in vector registers.
#pragma once

#include "runtime/cpu/kernels/tile_shape.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// Forced unrolling of loops over the rows of a tile. All rows, because otherwise the compiler keeps the sums in memory.
constexpr int kUnrolledRows = kStrip;
// The number of rows of the next smaller strip that is compiled.
constexpr int fewer_rows(int rows) { return rows - 1; }

// Must exist while tiles are multiplied (products_amx.h); does nothing here.
struct TilesInUse {
  TilesInUse() {}
};

// Calls finish with the sums Σ_k left(r, k) · b[k·b_stride + …], where k counts words, as sum[R][V] in registers. What
// finish computes overlaps with the products of the next tile.
template <class T, int R, int V = kTileVectors, class Finish>
__attribute__((always_inline)) inline void tile(Left<T> left, const Word<T>* b, int64_t b_stride, int64_t depth,
                                                Finish finish) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  Vector<A> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = Vector<A>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<A> column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) column[v] = load(reinterpret_cast<const A*>(b + k * b_stride) + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Word<T> value = left.data[r * left.row + k * left.inner];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = Operand<T>::multiply_add(value, column[v], sum[r][v]);
    }
  }
  finish(sum);
}

// c[R][V vectors] (+)= the product.
template <class T, int R, int V = kTileVectors>
__attribute__((noinline)) void tile_product(const Word<T>* left, int64_t left_row, int64_t left_inner, const Word<T>* b,
                                            int64_t b_stride, accumulate_t<T>* c, int64_t c_stride, int64_t depth,
                                            bool add) {
  tile<T, R, V>(
      {left, left_row, left_inner}, b, b_stride, depth, [=](TileSums<T, R, V> sum) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) {
            accumulate_t<T>* to = c + r * c_stride + v * Lanes<accumulate_t<T>>::kCount;
            store(to, add ? load(to) + sum[r][v] : sum[r][v]);
          }
      });
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
