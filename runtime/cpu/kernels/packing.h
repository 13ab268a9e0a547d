// Packing of the operands of attention's products; kernels.h describes the layouts.
#pragma once

#include "runtime/cpu/kernels/tile_shape.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <class T>
void pack_rows(void* packed, const T* from, int64_t stride, int64_t rows, int64_t head_dim) {
  using O = Operand<T>;
  Word<T>* to = static_cast<Word<T>*>(packed);
  const int64_t whole = head_dim / O::kDepth, behind = words<T>(head_dim) - (head_dim + O::kDepth - 1) / O::kDepth;
  for (int64_t r = 0; r < rows; ++r, from += stride) {
    if constexpr (sizeof(T) * O::kDepth == sizeof(Word<T>)) {  // words have the layout of `from`
      __builtin_memcpy(to, from, static_cast<size_t>(whole) * sizeof(Word<T>));
      to += whole;
    } else {
      for (int64_t d = 0; d < whole; ++d) *to++ = O::make(from + d * O::kDepth, from + d * O::kDepth + O::kDepth - 1);
    }
    if (whole * O::kDepth < head_dim) *to++ = O::make(from + head_dim - 1, nullptr);
    for (int64_t i = 0; i < behind; ++i) *to++ = O::zero();
  }
}

template <class T>
void pack_panel(void* packed, const T* from, int64_t stride, int64_t rows, int64_t head_dim) {
  using O = Operand<T>;
  Word<T>* to = static_cast<Word<T>*>(packed);
  const int64_t depth = (head_dim + O::kDepth - 1) / O::kDepth, whole = head_dim / O::kDepth;
  for (int64_t i = rows < kPanel ? 0 : depth * kPanel; i < words<T>(head_dim) * kPanel; ++i) to[i] = O::zero();
  // In blocks of lines, so that both loads and stores stay within a few cache lines.
  for (int64_t first = 0; first < depth; first += 16)
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = from + r * stride;
      const int64_t end = least(first + 16, whole);
      for (int64_t d = first; d < end; ++d)
        to[d * kPanel + r] = O::make(row + d * O::kDepth, row + d * O::kDepth + O::kDepth - 1);
      if (first + 16 >= depth && whole < depth) to[whole * kPanel + r] = O::make(row + head_dim - 1, nullptr);
    }
}

template <class T>
void pack_lanes(void* packed, const T* from, int64_t stride, int64_t rows, int64_t head_dim) {
  using O = Operand<T>;
  Word<T>* to = static_cast<Word<T>*>(packed);
  const int64_t padded = padded_width(head_dim);
  for (int64_t r = 0; r < words<T>(rows) * O::kDepth; r += O::kDepth, to += padded) {
    if (r >= rows) {
      for (int64_t d = 0; d < padded; ++d) to[d] = O::zero();
      continue;
    }
    const T* first = from + r * stride;
    const T* second = r + O::kDepth - 1 < rows ? first + (O::kDepth - 1) * stride : nullptr;
    if (second != nullptr)
      for (int64_t d = 0; d < head_dim; ++d) to[d] = O::make(first + d, second + d);
    else
      for (int64_t d = 0; d < head_dim; ++d) to[d] = O::make(first + d, nullptr);
    for (int64_t d = head_dim; d < padded; ++d) to[d] = O::zero();
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
