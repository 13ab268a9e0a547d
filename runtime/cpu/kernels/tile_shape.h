// The tile of all products of attention: CARILLON_TILE_ROWS rows by CARILLON_TILE_VECTORS vectors. A strip has as many
// rows as a tile; the width of a panel (kernels.h) is a multiple of a tile's. Strips and panels that a mask hides
// completely are skipped. products_registers.h and products_amx.h multiply tiles.
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
// The number of words of an inner dim of `elements` elements, in whole granules; the rest is padded with zeros.
template <class T>
inline int64_t words(int64_t elements) {
  constexpr int64_t kElements = Operand<T>::kDepth * Operand<T>::kGranule;
  return (elements + kElements - 1) / kElements * Operand<T>::kGranule;
}
// The word of the granule that contains `element`: the latest word at which a product including it may start.
template <class T>
inline int64_t words_before(int64_t element) {
  return element / (Operand<T>::kDepth * Operand<T>::kGranule) * Operand<T>::kGranule;
}

// One operand of a product: the word of row r and inner index k is at data[r·row + k·inner]. Do not pass it to
// functions that are not inlined: the compiler would copy it with vector instructions, which queue behind the products
// of the previous tile.
template <class T>
struct Left {
  const Word<T>* data;
  int64_t row;
  int64_t inner;
};

template <class T, int R, int V = kTileVectors>
using TileSums = Vector<accumulate_t<T>> (&)[R][V];

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
