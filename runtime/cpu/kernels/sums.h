// Kernels on long arrays: the statistics of a row of logits, the optimizer's update, sums of squares.
#pragma once

#include "runtime/cpu/kernels/rows.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

template <class A>
A row_maximum(const A* x, int64_t count) {
  constexpr int kLanes = Lanes<A>::kCount;
  A result = -__builtin_inf();
  Vector<A> largest = splat(result), bad{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vector<A> value = load(x + i);
    largest = larger<A>(value, largest);
    bad += value - value;  // 0, or NaN for a NaN or an infinity
  }
  result = horizontal_maximum<A>(largest);
  A tail = horizontal_sum<A>(bad);
  for (; i < count; ++i) {
    result = x[i] > result ? x[i] : result;
    tail += x[i] - x[i];
  }
  if (tail == tail) return result;
  for (i = 0; i < count; ++i)
    if (x[i] != x[i]) return x[i];
  return result;
}

template <class A>
A row_sum_exp(const A* x, int64_t count, A maximum) {
  constexpr int kLanes = Lanes<A>::kCount;
  Vector<A> sum{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += exponential(load(x + i) - maximum);
  A total = horizontal_sum<A>(sum);
  for (; i < count; ++i) total += exponential(splat(x[i] - maximum))[0];
  return total;
}

// `to` may start at the same address as x: each block is read before it is written.
template <class T, class A>
void row_softmax(T* to, const A* x, int64_t count, A maximum, A factor) {
  constexpr int kLanes = Lanes<A>::kCount;
  Block<A, A> in;
  Block<T, A> out;
  for_blocks(count, [&](int64_t begin, int64_t here) {
    in.read(x + begin, here);
    for (int64_t i = 0; i < here; i += kLanes)
      store(out.values + i, exponential(load(in.values + i) - maximum) * factor);
    out.write(to + begin, here);
  });
}

// Uses eight partial sums for every vector width, so that every instruction set gives the same bits.
template <class T>
double sum_of_squares(const T* x, int64_t count) {
  double lane[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int l = 0; l < 8; ++l) {
      const double value = load_as(x + i + l);
      lane[l] += value * value;
    }
  for (; i < count; ++i) {
    const double value = load_as(x + i);
    lane[i % 8] += value * value;
  }
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

template <class T, class A>
void adamw(T* __restrict rounded, A* __restrict w, A* __restrict m, A* __restrict v, const A* __restrict gradient,
           int64_t count, const AdamWNumbers<A>& step) {
  const AdamWNumbers<A> n = step;
  for_blocks(count, [&](int64_t begin, int64_t here) {
    for (int64_t i = begin; i < begin + here; ++i) {
      const A slope = gradient[i] * n.gradient_scale;
      m[i] = n.beta1 * m[i] + (1 - n.beta1) * slope;
      v[i] = n.beta2 * v[i] + (1 - n.beta2) * slope * slope;
      const A root = sizeof(A) == 4 ? static_cast<A>(__builtin_sqrtf(static_cast<float>(v[i])))
                                    : static_cast<A>(__builtin_sqrt(static_cast<double>(v[i])));
      w[i] = w[i] * n.decay - n.step_size * m[i] / (root / n.correction2 + n.epsilon);
    }
    if (rounded != nullptr) round_scaled<T, A>(rounded + begin, w + begin, A(1), here);
  });
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
