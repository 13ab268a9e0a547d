// Words of 32 bits that hold two neighbours along the inner dim, the first in the low half. Processors that multiply
// pairs of bfloat16 also have instructions to convert to them (AVX512-BF16).
#pragma once

#include <immintrin.h>

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

typedef uint32_t PairWord __attribute__((may_alias));

struct Pairs {
  using A = float;
  using Word = PairWord;
  static constexpr int kDepth = 2;

  static Word make(const bfloat16* first, const bfloat16* second) {
    return first->bits | static_cast<uint32_t>(second == nullptr ? 0 : second->bits) << 16;
  }
  static Word zero() { return 0; }
  // Rounded to nearest, ties to even; denormals become 0.
  static void put(Word* to, Vector<float> first, Vector<float> second) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
  }
  // Stores two vectors of adjacent rows of results as pairs, lane by lane.
  static void put_across(Word* to, Vector<float> upper, Vector<float> lower) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)lower, (__m512)upper);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, both));
  }
};

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
