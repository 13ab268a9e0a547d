// Kernels on rows of channels: norms, rotation, SwiGLU, sums of two rows, rounding.
#pragma once

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// Rows are processed in blocks of the accumulate type, in whole vectors; elements past the end of the row are 0.
template <class T, class A>
struct Block {
  static constexpr int64_t kCount = 256;
  A values[kCount];
  void read(const T* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = load_as(from + i);
    for (int64_t i = count; i % Lanes<A>::kCount != 0; ++i) values[i] = 0;
  }
  void write(T* to, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) to[i] = T(values[i]);
  }
};
// Rounds without a branch, because the constructor of bfloat16 branches on NaN for each element.
template <>
inline void Block<bfloat16, float>::write(bfloat16* to, int64_t count) const {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t word;
    __builtin_memcpy(&word, values + i, 4);
    const uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    const uint32_t quiet = (word >> 16) | 0x40;
    to[i].bits = static_cast<uint16_t>((word & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
  }
}

// Calls visit(begin, count) for the blocks of a row.
template <class Visit>
inline void for_blocks(int64_t count, Visit visit) {
  constexpr int64_t kCount = Block<float, float>::kCount;
  for (int64_t begin = 0; begin < count; begin += kCount) visit(begin, count - begin < kCount ? count - begin : kCount);
}

template <class T, class A>
A row_dot(const T* x, const T* y, int64_t count) {
  constexpr int kLanes = Lanes<A>::kCount;
  Block<T, A> u, v;
  Vector<A> sum{};
  for_blocks(count, [&](int64_t begin, int64_t here) {
    u.read(x + begin, here);
    v.read(y + begin, here);
    for (int64_t i = 0; i < here; i += kLanes) sum += load(u.values + i) * load(v.values + i);
  });
  return horizontal_sum<A>(sum);
}

template <class T, class A>
A row_dot_weighted(const T* x, const T* y, const T* weight, A offset, int64_t count) {
  constexpr int kLanes = Lanes<A>::kCount;
  Block<T, A> u, v, w;
  Vector<A> sum{};
  for_blocks(count, [&](int64_t begin, int64_t here) {
    u.read(x + begin, here);
    v.read(y + begin, here);
    w.read(weight + begin, here);
    for (int64_t i = 0; i < here; i += kLanes)
      sum += load(u.values + i) * load(v.values + i) * (load(w.values + i) + offset);
  });
  return horizontal_sum<A>(sum);
}

template <class T, class A>
A rmsnorm_forward(T* y, const T* x, const T* weight, int64_t count, const NormNumbers<A>& norm) {
  constexpr int kLanes = Lanes<A>::kCount;
  const A sum = norm.sum != nullptr ? *norm.sum : row_dot<T, A>(x, x, count);
  const A rstd = 1 / static_cast<A>(__builtin_sqrt(sum / static_cast<A>(norm.columns) + norm.epsilon));
  const A offset = norm.offset;
  Block<T, A> u, w;
  for_blocks(count, [&](int64_t begin, int64_t here) {
    u.read(x + begin, here);
    w.read(weight + begin, here);
    for (int64_t i = 0; i < here; i += kLanes)
      store(u.values + i, load(u.values + i) * rstd * (load(w.values + i) + offset));
    u.write(y + begin, here);
  });
  return rstd;
}

// dx (+)= rstd · (dy·w − u · mean(dy·w·u)), dweight += dy·u with u = x·rstd and the offset in w.
template <class T, class A>
void rmsnorm_backward(T* dx, A* dweight, T* y, const T* dy, const T* x, const T* weight, A rstd, int64_t count,
                      const NormNumbers<A>& norm, bool add) {
  constexpr int kLanes = Lanes<A>::kCount;
  const A offset = norm.offset;
  Block<T, A> u, w, d;
  Block<A, A> sums;
  Vector<A> sum{};
  for_blocks(count, [&](int64_t begin, int64_t here) {
    u.read(x + begin, here);
    w.read(weight + begin, here);
    d.read(dy + begin, here);
    sums.read(dweight + begin, here);
    for (int64_t i = 0; i < here; i += kLanes) {
      const Vector<A> slope = load(d.values + i) * (load(u.values + i) * rstd);
      sum += slope * (load(w.values + i) + offset);
      store(sums.values + i, load(sums.values + i) + slope);
    }
    sums.write(dweight + begin, here);
  });
  const A mean = (norm.sum != nullptr ? *norm.sum * rstd : horizontal_sum<A>(sum)) / static_cast<A>(norm.columns);
  Block<T, A> before;
  for_blocks(count, [&](int64_t begin, int64_t here) {
    u.read(x + begin, here);
    w.read(weight + begin, here);
    d.read(dy + begin, here);
    for (int64_t i = 0; i < here; i += kLanes)
      store(d.values + i,
            (load(d.values + i) * (load(w.values + i) + offset) - load(u.values + i) * (rstd * mean)) * rstd);
    if (add) {
      before.read(dx + begin, here);
      for (int64_t i = 0; i < here; i += kLanes) store(d.values + i, load(d.values + i) + load(before.values + i));
    }
    d.write(dx + begin, here);
    if (y == nullptr) return;
    for (int64_t i = 0; i < here; i += kLanes)
      store(u.values + i, load(u.values + i) * rstd * (load(w.values + i) + offset));
    u.write(y + begin, here);
  });
}

// Rotates every head of a row in place; pair j is (x[j], x[j + pairs]).
template <class T, class A>
void rotate(T* x, int64_t head_stride, int64_t heads, const A* cosine, const A* sine, A sign, int64_t pairs) {
  constexpr int kLanes = Lanes<A>::kCount;
  Block<T, A> u, v;
  Block<A, A> c, s;
  for_blocks(pairs, [&](int64_t begin, int64_t here) {
    c.read(cosine + begin, here);
    s.read(sine + begin, here);
    for (int64_t h = 0; h < heads; ++h) {
      T* first = x + h * head_stride + begin;
      u.read(first, here);
      v.read(first + pairs, here);
      for (int64_t i = 0; i < here; i += kLanes) {
        const Vector<A> a = load(u.values + i), b = load(v.values + i), turn = load(s.values + i) * sign;
        store(u.values + i, a * load(c.values + i) - b * turn);
        store(v.values + i, b * load(c.values + i) + a * turn);
      }
      u.write(first, here);
      v.write(first + pairs, here);
    }
  });
}

// Gates are z · sigmoid(g(z)): g and its derivative.
template <class A, bool kGelu>
Vector<A> inside_gate(Vector<A> z) {
  if constexpr (!kGelu) return z;
  const Vector<A> square = z * z;
  return z * (square * A(0.0713548162726002527220) + A(1.595769121605730711759));
}
template <class A, bool kGelu>
Vector<A> inside_gate_slope(Vector<A> z) {
  return z * z * A(3 * 0.0713548162726002527220) + A(1.595769121605730711759);
}

template <class T, class A, bool kGelu>
void swiglu_forward(T* y, const T* gate, const T* up, int64_t count) {
  Block<T, A> g, u;
  for (int64_t begin = 0; begin < count; begin += g.kCount) {
    const int64_t here = count - begin < g.kCount ? count - begin : g.kCount;
    g.read(gate + begin, here);
    u.read(up + begin, here);
    for (int64_t i = 0; i < here; i += Lanes<A>::kCount) {
      const Vector<A> z = load(g.values + i);
      store(g.values + i, z / (A(1) + exponential(-inside_gate<A, kGelu>(z))) * load(u.values + i));
    }
    g.write(y + begin, here);
  }
}

template <class T, class A, bool kGelu>
void swiglu_backward(T* dgate, T* dup, T* y, const T* dy, const T* gate, const T* up, int64_t count) {
  Block<T, A> g, u, d;
  for (int64_t begin = 0; begin < count; begin += g.kCount) {
    const int64_t here = count - begin < g.kCount ? count - begin : g.kCount;
    g.read(gate + begin, here);
    u.read(up + begin, here);
    d.read(dy + begin, here);
    for (int64_t i = 0; i < here; i += Lanes<A>::kCount) {
      const Vector<A> z = load(g.values + i), slope = load(d.values + i);
      const Vector<A> below = A(1) + exponential(-inside_gate<A, kGelu>(z)), s = A(1) / below;
      store(d.values + i, z / below * load(u.values + i));  // the same expression as in the forward pass
      Vector<A> turn = z * (A(1) - s);
      if constexpr (kGelu) turn = turn * inside_gate_slope<A, kGelu>(z);
      store(g.values + i, slope * load(u.values + i) * s * (A(1) + turn));
      store(u.values + i, slope * z * s);
    }
    d.write(y + begin, here);
    g.write(dgate + begin, here);
    u.write(dup + begin, here);
  }
}

template <class T, class A>
void add_rows(T* y, const T* a, const T* b, int64_t count) {
  constexpr int kLanes = Lanes<A>::kCount;
  Block<T, A> u, v;
  for_blocks(count, [&](int64_t begin, int64_t here) {
    u.read(a + begin, here);
    v.read(b + begin, here);
    for (int64_t i = 0; i < here; i += kLanes) store(u.values + i, load(u.values + i) + load(v.values + i));
    u.write(y + begin, here);
  });
}

template <class A>
void add_scaled(A* to, const A* a, const A* b, A factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += (b == nullptr ? a[i] : a[i] + b[i]) * factor;
}

template <class T, class A>
void widen(A* to, const T* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = load_as(from + i);
}

template <class T, class A>
void round_scaled(T* to, const A* from, A factor, int64_t count) {
  Block<T, A> block;
  for_blocks(count, [&](int64_t begin, int64_t here) {
    for (int64_t i = 0; i < here; ++i) block.values[i] = from[begin + i] * factor;
    block.write(to + begin, here);
  });
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
