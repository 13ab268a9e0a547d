// bfloat16 products of a tile of 16 rows by up to 64 columns with Intel AMX. The sums return through memory (the L1
// cache).
#pragma once

#include "runtime/cpu/kernels/amx_tile.h"
#include "runtime/cpu/kernels/tile_shape.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

static_assert(kStrip == amx_tile::kRows && kTileVectors == 4 && Lanes<float>::kCount == amx_tile::kWords);
static_assert(kForwardRows % kStrip == 0 && kBackwardKeys % (2 * amx_tile::kWords) == 0);

constexpr int kUnrolledRows = 2;  // unrolling of loops over rows; the number of rows is even or 1
constexpr int fewer_rows(int rows) { return rows / 2; }

// The first kTileVectors tiles hold sums, then comes one tile for each operand.
constexpr int kLeftTile = 4, kRightTile = 5;

// Must exist while tiles are multiplied: configures the tiles of this thread and releases them. Libraries such as
// oneDNN use tiles too and may leave them in any configuration.
struct TilesInUse {
  TilesInUse() { amx_tile::configure(); }
  ~TilesInUse() { amx_tile::release(); }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
};

typedef uint32_t WordVector __attribute__((vector_size(4 * amx_tile::kWords), aligned(4), may_alias));

// Swaps row[i][j] and row[j][i], in four rounds with blocks of 1, 2, 4 and 8.
template <int block = 1>
__attribute__((always_inline)) inline void transpose(WordVector (&row)[amx_tile::kRows]) {
  constexpr int kWords = amx_tile::kWords;
  WordVector upper, lower;
#pragma GCC unroll 16
  for (int j = 0; j < kWords; ++j) {
    upper[j] = static_cast<uint32_t>(j & block ? kWords + j - block : j);
    lower[j] = static_cast<uint32_t>(j & block ? kWords + j : j + block);
  }
#pragma GCC unroll 16
  for (int i = 0; i < amx_tile::kRows; ++i)
    if ((i & block) == 0) {
      const WordVector first = row[i], second = row[i + block];
      row[i] = __builtin_shuffle(first, second, upper);
      row[i + block] = __builtin_shuffle(first, second, lower);
    }
  if constexpr (2 * block < kWords) transpose<2 * block>(row);
}

// Loads words [k, k + 16) of the left operand's R rows. They are copied first if there are fewer rows than a tile has,
// so that nothing after the last row is read, and if the operand has to be transposed.
template <int R>
__attribute__((always_inline)) inline void load_left(Left<bfloat16> left, int64_t k) {
  const PairWord* from = left.data + k * left.inner;
  if (R == amx_tile::kRows && left.inner == 1) return amx_tile::load<kLeftTile>(from, 4 * left.row);
  alignas(64) WordVector copy[amx_tile::kRows] = {};
  if (left.inner == 1) {
    for (int r = 0; r < R; ++r) __builtin_memcpy(copy + r, from + r * left.row, 4 * amx_tile::kWords);
  } else {  // rows side by side
#pragma GCC unroll 16
    for (int w = 0; w < amx_tile::kWords; ++w) __builtin_memcpy(copy + w, from + w * left.inner, 4 * R);
    transpose(copy);
  }
  amx_tile::load<kLeftTile>(copy, sizeof copy[0]);
}

template <int V>
__attribute__((always_inline)) inline void zero_sums() {
  if constexpr (V > 1) zero_sums<V - 1>();
  amx_tile::zero<V - 1>();
}
template <int V>
__attribute__((always_inline)) inline void load_sums(const float* from, int64_t stride) {
  if constexpr (V > 1) load_sums<V - 1>(from, stride);
  amx_tile::load<V - 1>(from + (V - 1) * amx_tile::kWords, 4 * stride);
}
template <int V>
__attribute__((always_inline)) inline void save_sums(float* to, int64_t stride) {
  if constexpr (V > 1) save_sums<V - 1>(to, stride);
  amx_tile::save<V - 1>(to + (V - 1) * amx_tile::kWords, 4 * stride);
}
template <int V>
__attribute__((always_inline)) inline void add_products(const PairWord* b, int64_t b_stride) {
  if constexpr (V > 1) add_products<V - 1>(b, b_stride);
  amx_tile::load<kRightTile>(b + (V - 1) * amx_tile::kWords, 4 * b_stride);
  amx_tile::add_products<V - 1, kLeftTile, kRightTile>();
}

// Adds the product to V tiles of sums; depth counts words and is a multiple of 16.
template <int R, int V>
__attribute__((always_inline)) inline void multiply_tiles(Left<bfloat16> left, const PairWord* b, int64_t b_stride,
                                                          int64_t depth) {
  for (int64_t k = 0; k < depth; k += amx_tile::kWords) {
    load_left<R>(left, k);
    add_products<V>(b + k * b_stride, b_stride);
  }
}

// As in products_registers.h, but finish gets the sums in memory.
template <class T, int R, int V = kTileVectors, class Finish>
__attribute__((always_inline)) inline void tile(Left<T> left, const Word<T>* b, int64_t b_stride, int64_t depth,
                                                Finish finish) {
  alignas(64) Vector<float> sum[amx_tile::kRows][V];
  zero_sums<V>();
  multiply_tiles<R, V>(left, b, b_stride, depth);
  save_sums<V>(reinterpret_cast<float*>(sum), V * amx_tile::kWords);
  finish(reinterpret_cast<TileSums<T, R, V>>(sum));
}

template <class T, int R, int V = kTileVectors>
__attribute__((noinline)) void tile_product(const Word<T>* left, int64_t left_row, int64_t left_inner, const Word<T>* b,
                                            int64_t b_stride, accumulate_t<T>* c, int64_t c_stride, int64_t depth,
                                            bool add) {
  if constexpr (R == amx_tile::kRows) {
    if (add)
      load_sums<V>(c, c_stride);
    else
      zero_sums<V>();
    multiply_tiles<R, V>({left, left_row, left_inner}, b, b_stride, depth);
    save_sums<V>(c, c_stride);
  } else {
    tile<T, R, V>({left, left_row, left_inner}, b, b_stride, depth, [=](TileSums<T, R, V> sum) {
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
          float* to = c + r * c_stride + v * amx_tile::kWords;
          store(to, add ? load(to) + sum[r][v] : sum[r][v]);
        }
    });
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
