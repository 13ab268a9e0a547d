// 2^x for softmax, x at most about 0, by AVX-512's own scaling by a power of two. Polynomials as in power_of_two.h. Far
// below the smallest normal the result is 0; -inf gives a NaN, so callers mask by themselves; a NaN stays. (The masked
// form of the intrinsic, all lanes on: g++ 12 warns about the other one's own header.)
#pragma once

#include <immintrin.h>

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

inline Vector<float> power_of_two(Vector<float> x, float) {
  const Vector<float> n = (x + 12582912.0f) - 12582912.0f;
  const Vector<float> r = x - n;
  Vector<float> p = splat(1.327647198e-3f);
  p = p * r + 9.675541334e-3f;
  p = p * r + 5.550713274e-2f;
  p = p * r + 2.402211972e-1f;
  p = p * r + 6.931469671e-1f;
  p = p * r + 1.000000072f;
  return (Vector<float>)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)n);
}
inline Vector<float> power_of_two(Vector<float> x, bfloat16) {
  const Vector<float> n = (x + 12582912.0f) - 12582912.0f;
  const Vector<float> r = x - n;
  Vector<float> p = splat(5.517166907e-2f);
  p = p * r + 2.426111222e-1f;
  p = p * r + 6.932609855e-1f;
  p = p * r + 9.999280735e-1f;
  return (Vector<float>)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)n);
}
inline Vector<double> power_of_two(Vector<double> x, double) { return exponential(x * 0.69314718055994530942); }

inline bool any_larger(Vector<float> v, float bound) {
  return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
}
inline bool any_larger(Vector<double> v, double bound) {
  return _mm512_cmp_pd_mask((__m512d)v, _mm512_set1_pd(bound), _CMP_GT_OQ) != 0;
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
