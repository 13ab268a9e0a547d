// Sizes that both files of the counting backend use.
#pragma once

#include <initializer_list>

#include "runtime/attention_pieces.h"
#include "runtime/tensor.h"

namespace carillon {

inline double bytes_of(const Tensor& x) { return x ? static_cast<double>(x.bytes()) : 0; }
inline double bytes_of(std::initializer_list<Tensor> tensors) {
  double sum = 0;
  for (const Tensor& x : tensors) sum += bytes_of(x);
  return sum;
}

// Whether all pairs of a piece, or all below its diagonal, see each other, so that cuDNN may take it.
inline bool is_whole(const MaskPiece& piece) { return piece.kind != MaskPiece::Kind::kIntervals; }

}  // namespace carillon
