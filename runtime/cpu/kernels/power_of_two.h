// 2^x for softmax, with instructions that every processor has; power_of_two_avx512.h needs fewer instructions.
#pragma once

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// The time goes into multiplications, so there are as few as the precision of the result allows. The result never falls
// below about the smallest normal, not even to 0 (callers mask), and never exceeds 2^126; a NaN stays NaN.
inline Vector<float> clamped(Vector<float> x) {
  const Vector<float> low = splat(-125.0f), high = splat(126.0f);
  x = low > x ? low : x;
  return high < x ? high : x;
}
// For a result kept in float: minimax polynomial of degree 5, relative error 2.1e-7.
inline Vector<float> power_of_two(Vector<float> x, float) {
  x = clamped(x);
  const Vector<float> shifted = x + 12582912.0f;
  const Vector<float> r = x - (shifted - 12582912.0f);
  Vector<float> p = splat(1.327647198e-3f);
  p = p * r + 9.675541334e-3f;
  p = p * r + 5.550713274e-2f;
  p = p * r + 2.402211972e-1f;
  p = p * r + 6.931469671e-1f;
  p = p * r + 1.000000072f;
  return (Vector<float>)((Lanes<float>::Integers)p + ((Lanes<float>::Integers)shifted << 23));
}
// For a result rounded to bfloat16 (relative error 2e-3): degree 3, relative error 7.5e-5.
inline Vector<float> power_of_two(Vector<float> x, bfloat16) {
  x = clamped(x);
  const Vector<float> shifted = x + 12582912.0f;
  const Vector<float> r = x - (shifted - 12582912.0f);
  Vector<float> p = splat(5.517166907e-2f);
  p = p * r + 2.426111222e-1f;
  p = p * r + 6.932609855e-1f;
  p = p * r + 9.999280735e-1f;
  return (Vector<float>)((Lanes<float>::Integers)p + ((Lanes<float>::Integers)shifted << 23));
}
inline Vector<double> power_of_two(Vector<double> x, double) { return exponential(x * 0.69314718055994530942); }

// Records whether any lane of the tested vectors exceeded its bound or was NaN.
template <class A>
struct Above {
  typename Lanes<A>::Integers lanes{};
  void test(Vector<A> v, Vector<A> bound) { lanes |= ~(typename Lanes<A>::Integers)(v <= bound); }
  bool any() const {
    int64_t all = 0;
    for (int i = 0; i < Lanes<A>::kCount; ++i) all |= lanes[i];
    return all != 0;
  }
};

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
