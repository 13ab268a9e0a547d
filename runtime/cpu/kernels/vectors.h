// Vectors of float and double in the compiler's vector types, of CARILLON_VECTOR_BYTES. Only the .cpp files of this
// folder include this, each with its own namespace. Nothing here may call a function template of the standard library:
// the linker would keep one copy of it, possibly one with instructions that the machine lacks.
#pragma once

#include <cstdint>

#include "runtime/cpu/kernels.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <class A>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(CARILLON_VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t Integers __attribute__((vector_size(CARILLON_VECTOR_BYTES)));
  static constexpr int kCount = CARILLON_VECTOR_BYTES / 4;
};
template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(CARILLON_VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t Integers __attribute__((vector_size(CARILLON_VECTOR_BYTES)));
  static constexpr int kCount = CARILLON_VECTOR_BYTES / 8;
};
template <class A>
using Vector = typename Lanes<A>::Vector;

template <class A>
inline Vector<A> load(const A* from) {
  return *reinterpret_cast<const Vector<A>*>(from);
}
template <class A>
inline void store(A* to, Vector<A> value) {
  *reinterpret_cast<Vector<A>*>(to) = value;
}
template <class A>
inline Vector<A> splat(A value) {
  return value - Vector<A>{};
}
// The larger lanes. If a lane of `a` is NaN, takes that of `b`; a NaN in `b` is kept.
template <class A>
inline Vector<A> larger(Vector<A> a, Vector<A> b) {
  return a > b ? a : b;
}

// Lanes [begin, end) of v, 0 in the others.
template <class A>
inline Vector<A> within(Vector<A> v, int64_t begin, int64_t end) {
  using Integers = typename Lanes<A>::Integers;
  Integers lane;
#pragma GCC unroll 16
  for (int i = 0; i < Lanes<A>::kCount; ++i) lane[i] = i;
  const auto low = static_cast<decltype(lane[0] + 0)>((begin > -1 ? begin : -1)),
             high = static_cast<decltype(lane[0] + 0)>((end < 64 ? end : 64));
  return (lane >= low) & (lane < high) ? v : Vector<A>{};
}

// Lanes rotated by `by` places.
template <class A, int by>
inline Vector<A> turned(Vector<A> v) {
  typename Lanes<A>::Integers from;
#pragma GCC unroll 16
  for (int i = 0; i < Lanes<A>::kCount; ++i) from[i] = (i + by) % Lanes<A>::kCount;
  return __builtin_shuffle(v, from);
}
// Adds the lanes in a tree, halving each time.
template <class A, int half = Lanes<A>::kCount / 2>
inline A horizontal_sum(Vector<A> v) {
  v += turned<A, half>(v);
  if constexpr (half > 1)
    return horizontal_sum<A, half / 2>(v);
  else
    return v[0];
}
template <class A, int half = Lanes<A>::kCount / 2>
inline A horizontal_maximum(Vector<A> v) {
  v = larger<A>(v, turned<A, half>(v));
  if constexpr (half > 1)
    return horizontal_maximum<A, half / 2>(v);
  else
    return v[0];
}

// exp(x) = 2^n · e^r with |r| <= ln2/2, where ln2 is split in two parts and e^r is a Taylor polynomial. Relative error
// 2e-7 (float), 4e-16 (double). Never falls below about the smallest normal, not even to 0; a NaN stays NaN.
inline Vector<float> exponential(Vector<float> x) {
  const Vector<float> low = splat(-87.0f), high = splat(88.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vector<float> shifted = x * 1.44269504f + 12582912.0f;  // 1.5 · 2^23: rounds to an integer
  const Vector<float> n = shifted - 12582912.0f;
  const Vector<float> r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vector<float> p = splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Lanes<float>::Integers exponent = ((Lanes<float>::Integers)shifted + 127) << 23;
  return p * (Vector<float>)exponent;
}
inline Vector<double> exponential(Vector<double> x) {
  const Vector<double> low = splat(-708.0), high = splat(709.0);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Vector<double> shifted = x * 1.4426950408889634 + 6755399441055744.0;  // 1.5 · 2^52
  const Vector<double> n = shifted - 6755399441055744.0;
  const Vector<double> r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  Vector<double> p = splat(1.0 / 6227020800);
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const Lanes<double>::Integers exponent = ((Lanes<double>::Integers)shifted + 1023) << 52;
  return p * (Vector<double>)exponent;
}

inline float load_as(const bfloat16* from) {
  const uint32_t word = static_cast<uint32_t>(from->bits) << 16;
  float value;
  __builtin_memcpy(&value, &word, 4);
  return value;
}
inline float load_as(const float* from) { return *from; }
inline double load_as(const double* from) { return *from; }

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
