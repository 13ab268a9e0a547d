// The tile all products of attention go through: CARILLON_TILE_ROWS rows by CARILLON_TILE_VECTORS vectors. A strip is
// as many rows, a panel (kernels.h) is a multiple of its columns; what a mask hides is left out by whole ones. How a
// tile is multiplied: products_registers.h, products_amx.h.
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
// Of so many elements; an inner dim ends with whole granules, zeros after what is there.
template <class T>
inline int64_t words(int64_t elements) {
  constexpr int64_t kElements = Operand<T>::kDepth * Operand<T>::kGranule;
  return (elements + kElements - 1) / kElements * Operand<T>::kGranule;
}
// Of the whole granules before an element: where a product that begins there may begin.
template <class T>
inline int64_t words_before(int64_t element) {
  return element / (Operand<T>::kDepth * Operand<T>::kGranule) * Operand<T>::kGranule;
}

// One operand of a product: the word of row r and inner index k stands at data[r·row + k·inner]. Not an argument of a
// function that is called: the compiler would copy it by vectors, which queue behind the products of the tile before.
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
