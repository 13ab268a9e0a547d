// Layout of packed operands without hardware for bfloat16 products: words of the accumulate type, one element each;
// bfloat16 is widened while packing.
#pragma once

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <class T>
struct Operand {
  using A = accumulate_t<T>;
  using Word = A;
  static constexpr int kDepth = 1;    // elements along the inner dim per word
  static constexpr int kGranule = 1;  // inner dims are multiples of this number of words

  static Word make(const T* element, const T*) { return load_as(element); }
  static Word zero() { return 0; }
  static Vector<A> multiply_add(Word a, Vector<A> b, Vector<A> sum) { return a * b + sum; }
  // Stores two adjacent vectors of a row of results as an operand whose inner dim runs along the row.
  static void put(Word* to, Vector<A> first, Vector<A> second) {
    store(to, first);
    store(to + Lanes<A>::kCount, second);
  }
};

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
