// 2^x for softmax with two AVX-512 instructions: one removes the integer part of x (rounded down), one scales by 2 to
// that part, so only a polynomial on [0, 1) remains. The result is 0 far below the smallest normal, also for -inf; inf
// if x is too large; a NaN stays NaN. (Uses the masked intrinsics with all lanes enabled, because g++ 12 warns about
// its own header for the others.)
#pragma once

#include <immintrin.h>

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// x - floor(x).
inline Vector<float> fraction(Vector<float> x) {
  constexpr int kDownQuietly = 0x9;
  return (Vector<float>)_mm512_maskz_reduce_ps(0xffff, (__m512)x, kDownQuietly);
}
inline Vector<float> scaled(Vector<float> p, Vector<float> x) {
  return (Vector<float>)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)x);
}
// Minimax polynomial of degree 5: relative error 1.5e-7 including rounding.
inline Vector<float> power_of_two(Vector<float> x, float) {
  const Vector<float> r = fraction(x);
  Vector<float> p = splat(1.877576675e-3f);
  p = p * r + 8.989340090e-3f;
  p = p * r + 5.582631805e-2f;
  p = p * r + 2.401536170e-1f;
  p = p * r + 6.931530732e-1f;
  p = p * r + 9.999999251e-1f;
  return scaled(p, x);
}
// For a result rounded to bfloat16 (relative error 2e-3): degree 3, relative error 7.5e-5.
inline Vector<float> power_of_two(Vector<float> x, bfloat16) {
  const Vector<float> r = fraction(x);
  Vector<float> p = splat(7.802452264e-2f);
  p = p * r + 2.260671554e-1f;
  p = p * r + 6.958335405e-1f;
  p = p * r + 9.999252186e-1f;
  return scaled(p, x);
}
inline Vector<double> power_of_two(Vector<double> x, double) { return exponential(x * 0.69314718055994530942); }

// Records whether any lane of the tested vectors exceeded its bound or was NaN.
template <class A>
struct Above;
template <>
struct Above<float> {
  __mmask16 lanes = 0;
  void test(Vector<float> v, Vector<float> bound) {
    lanes |= _mm512_cmp_ps_mask((__m512)v, (__m512)bound, _CMP_NLE_UQ);
  }
  bool any() const { return lanes != 0; }
};
template <>
struct Above<double> {
  __mmask8 lanes = 0;
  void test(Vector<double> v, Vector<double> bound) {
    lanes |= _mm512_cmp_pd_mask((__m512d)v, (__m512d)bound, _CMP_NLE_UQ);
  }
  bool any() const { return lanes != 0; }
};

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
