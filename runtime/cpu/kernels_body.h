// The kernels, written with the compiler's vector types. Included once by each kernels_*.cpp, which sets the width in
// bytes CARILLON_VECTOR_BYTES, the register tile's rows CARILLON_TILE_ROWS and vectors CARILLON_TILE_VECTORS, and the
// namespace CARILLON_KERNELS. Nothing here may call a function template of the standard library: the linker would keep
// one copy of it, perhaps the one with instructions another machine lacks.
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
template <class A>
inline Vector<A> larger(Vector<A> a, Vector<A> b) {
  return a > b ? a : b;
}

// exp, by 2^n · e^r with |r| <= ln2/2 in two parts and Taylor's polynomial: relative error 2e-7 (float), 4e-16
// (double). Arguments below the smallest normal's logarithm give about that, not 0; a NaN stays.
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

// c[R][Vectors·lanes] (+)= Σ_k a[r·row + k·depth] · b[k·stride + …]
template <class A, int R>
inline void tile(const A* a, int64_t a_row, int64_t a_depth, const A* b, int64_t b_stride, A* c, int64_t c_stride,
                 int64_t depth, bool accumulate) {
  constexpr int kVectors = CARILLON_TILE_VECTORS, kLanes = Lanes<A>::kCount;
  Vector<A> sum[R][kVectors];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = accumulate ? load(c + r * c_stride + v * kLanes) : Vector<A>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<A> column[kVectors];
    for (int v = 0; v < kVectors; ++v) column[v] = load(b + k * b_stride + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const A value = a[r * a_row + k * a_depth];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] += value * column[v];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVectors; ++v) store(c + r * c_stride + v * kLanes, sum[r][v]);
}

// c[rows][kPanel] (+)= a · b, b of one panel's width.
template <class A>
void product(const A* a, int64_t a_row, int64_t a_depth, const A* b, int64_t b_stride, A* c, int64_t c_stride,
             int64_t rows, int64_t depth, bool accumulate) {
  constexpr int64_t kWidth = CARILLON_TILE_VECTORS * Lanes<A>::kCount;
  static_assert(kPanel % kWidth == 0);
  for (int64_t column = 0; column < kPanel; column += kWidth) {
    int64_t r = 0;
    for (; r + CARILLON_TILE_ROWS <= rows; r += CARILLON_TILE_ROWS)
      tile<A, CARILLON_TILE_ROWS>(a + r * a_row, a_row, a_depth, b + column, b_stride, c + r * c_stride + column,
                                  c_stride, depth, accumulate);
    for (; r < rows; ++r)
      tile<A, 1>(a + r * a_row, a_row, a_depth, b + column, b_stride, c + r * c_stride + column, c_stride, depth,
                 accumulate);
  }
}

template <class T, class A>
void pack_rows(A* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim, A factor) {
  const int64_t padded = round_to_panel(head_dim);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t d = 0; d < head_dim; ++d) to[r * padded + d] = load_as(from + r * stride + d) * factor;
    for (int64_t d = head_dim; d < padded; ++d) to[r * padded + d] = 0;
  }
}

template <class T, class A>
void pack_panel(A* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim, A factor) {
  if (rows < kPanel)
    for (int64_t i = 0; i < head_dim * kPanel; ++i) to[i] = 0;
  // By blocks of lines: reads and writes both stay in a few cache lines.
  for (int64_t d0 = 0; d0 < head_dim; d0 += 16)
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t end = d0 + 16 < head_dim ? d0 + 16 : head_dim;
      for (int64_t d = d0; d < end; ++d) to[d * kPanel + r] = load_as(from + r * stride + d) * factor;
    }
}

template <class A>
inline A horizontal_sum(Vector<A> v) {
  A sum = 0;
  for (int i = 0; i < Lanes<A>::kCount; ++i) sum += v[i];
  return sum;
}
template <class A>
inline A horizontal_maximum(Vector<A> v) {
  A largest = v[0];
  for (int i = 1; i < Lanes<A>::kCount; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

template <class A>
void attention_forward(const ForwardBlock<A>& block) {
  constexpr int kLanes = Lanes<A>::kCount;
  const int64_t padded = round_to_panel(block.head_dim);
  const A negative = -__builtin_inf();
  const int64_t first = block.visible[0].begin / kPanel * kPanel, last = block.visible[block.rows - 1].end;
  for (int64_t begin = first; begin < last; begin += kForwardKeys) {
    const int64_t keys = last - begin < kForwardKeys ? last - begin : kForwardKeys;
    const int64_t wide = (keys + kPanel - 1) / kPanel * kPanel;
    // Rows that see something of these keys stand together: both ends of the intervals are non-decreasing.
    int64_t from = 0, to = block.rows;
    while (from < to && block.visible[from].end <= begin) ++from;
    while (to > from && block.visible[to - 1].begin >= begin + keys) --to;
    for (int64_t panel = 0; panel < wide; panel += kPanel)
      product<A>(block.q + from * padded, padded, 1, block.k_panels + (begin + panel) * block.head_dim, kPanel,
                 block.scores + from * kForwardKeys + panel, kForwardKeys, to - from, block.head_dim, false);
    for (int64_t r = from; r < to; ++r) {
      A* row = block.scores + r * kForwardKeys;
      const int64_t low = block.visible[r].begin > begin ? block.visible[r].begin - begin : 0;
      const int64_t high = block.visible[r].end < begin + keys ? block.visible[r].end - begin : keys;
      for (int64_t j = 0; j < (low < wide ? low : wide); ++j) row[j] = negative;
      for (int64_t j = high > 0 ? high : 0; j < wide; ++j) row[j] = negative;
      Vector<A> largest = splat(negative);
      for (int64_t j = 0; j < wide; j += kLanes) largest = larger<A>(load(row + j), largest);
      A maximum = horizontal_maximum<A>(largest);
      const A before = block.maximum[r];
      maximum = maximum > before ? maximum : before;
      if (maximum == negative) {  // nothing seen yet: every entry must count as zero
        for (int64_t j = 0; j < wide; ++j) row[j] = 0;
        continue;
      }
      if (maximum > before) {
        const A shrink = before == negative ? A(0) : exponential(splat(before - maximum))[0];
        block.maximum[r] = maximum;
        block.sum[r] *= shrink;
        for (int64_t d = 0; d < padded; d += kLanes)
          store(block.out + r * padded + d, load(block.out + r * padded + d) * shrink);
      }
      Vector<A> sum{};
      for (int64_t j = 0; j < wide; j += kLanes) {
        const Vector<A> score = load(row + j);
        const Vector<A> p = score == splat(negative) ? Vector<A>{} : exponential(score - maximum);
        store(row + j, p);
        sum += p;
      }
      block.sum[r] += horizontal_sum<A>(sum);
    }
    for (int64_t d = 0; d < padded; d += kPanel)
      product<A>(block.scores + from * kForwardKeys, kForwardKeys, 1, block.v + begin * padded + d, padded,
                 block.out + from * padded + d, padded, to - from, keys, true);
  }
}

template <class A>
void attention_backward(const BackwardBlock<A>& block) {
  constexpr int kLanes = Lanes<A>::kCount;
  const int64_t padded = round_to_panel(block.head_dim);
  const int64_t wide = round_to_panel(block.queries);
  for (int64_t panel = 0; panel < wide; panel += kPanel) {
    product<A>(block.k, padded, 1, block.q_panels + panel * block.head_dim, kPanel, block.p + panel, kBackwardQueries,
               block.keys, block.head_dim, false);
    product<A>(block.v, padded, 1, block.dout_panels + panel * block.head_dim, kPanel, block.ds + panel,
               kBackwardQueries, block.keys, block.head_dim, false);
  }
  // Is the block whole? Intervals are non-decreasing in both ends.
  const bool full = block.visible[block.queries - 1].begin <= 0 && block.visible[0].end >= block.keys;
  for (int64_t j = 0; j < block.keys; ++j) {
    A* p = block.p + j * kBackwardQueries;
    A* ds = block.ds + j * kBackwardQueries;
    for (int64_t i = 0; i < wide; i += kLanes) {
      const Vector<A> lse = load(block.lse + i);
      const Vector<A> value = lse == splat(A(__builtin_inf())) ? Vector<A>{} : exponential(load(p + i) - lse);
      store(p + i, value);
    }
    if (!full)
      for (int64_t i = 0; i < block.queries; ++i)
        if (j < block.visible[i].begin || j >= block.visible[i].end) p[i] = 0;
    for (int64_t i = 0; i < wide; i += kLanes) {
      const Vector<A> probability = load(p + i);
      const Vector<A> slope = probability * (load(ds + i) - load(block.delta + i));
      store(ds + i, probability == Vector<A>{} ? Vector<A>{} : slope);
    }
  }
  for (int64_t d = 0; d < padded; d += kPanel) {
    product<A>(block.p, kBackwardQueries, 1, block.dout + d, padded, block.dv + d, padded, block.keys, block.queries,
               true);
    product<A>(block.ds, kBackwardQueries, 1, block.q + d, padded, block.dk + d, padded, block.keys, block.queries,
               true);
    product<A>(block.ds, 1, kBackwardQueries, block.k + d, padded, block.dq + d, padded, block.queries, block.keys,
               true);
  }
}

// Rows are worked on in blocks of the accumulate type.
template <class T, class A>
struct Block {
  static constexpr int64_t kCount = 256;
  A values[kCount];
  void read(const T* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = load_as(from + i);
    for (int64_t i = count; i < kCount; ++i) values[i] = 0;
  }
  void write(T* to, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) to[i] = T(values[i]);
  }
};
// Rounding written out: the constructor of bfloat16 tests for NaN element by element.
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

template <class T, class A>
void swiglu_forward(T* y, const T* gate, const T* up, int64_t count) {
  Block<T, A> g, u;
  for (int64_t begin = 0; begin < count; begin += g.kCount) {
    const int64_t here = count - begin < g.kCount ? count - begin : g.kCount;
    g.read(gate + begin, here);
    u.read(up + begin, here);
    for (int64_t i = 0; i < g.kCount; i += Lanes<A>::kCount) {
      const Vector<A> z = load(g.values + i);
      store(g.values + i, z / (A(1) + exponential(-z)) * load(u.values + i));
    }
    g.write(y + begin, here);
  }
}

template <class T, class A>
void swiglu_backward(T* dgate, T* dup, const T* dy, const T* gate, const T* up, int64_t count) {
  Block<T, A> g, u, d;
  for (int64_t begin = 0; begin < count; begin += g.kCount) {
    const int64_t here = count - begin < g.kCount ? count - begin : g.kCount;
    g.read(gate + begin, here);
    u.read(up + begin, here);
    d.read(dy + begin, here);
    for (int64_t i = 0; i < g.kCount; i += Lanes<A>::kCount) {
      const Vector<A> z = load(g.values + i), slope = load(d.values + i);
      const Vector<A> s = A(1) / (A(1) + exponential(-z));
      store(g.values + i, slope * load(u.values + i) * s * (A(1) + z * (A(1) - s)));
      store(u.values + i, slope * z * s);
    }
    g.write(dgate + begin, here);
    u.write(dup + begin, here);
  }
}

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

template <class A>
void row_softmax(A* x, int64_t count, A maximum, A factor) {
  constexpr int kLanes = Lanes<A>::kCount;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, exponential(load(x + i) - maximum) * factor);
  for (; i < count; ++i) x[i] = exponential(splat(x[i] - maximum))[0] * factor;
}

template <class T, class A>
A row_dot(const T* x, const T* y, int64_t count) {
  constexpr int kLanes = Lanes<A>::kCount;
  A partial[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int l = 0; l < kLanes; ++l) partial[l] += load_as(x + i + l) * load_as(y + i + l);
  A sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += partial[l];
  for (; i < count; ++i) sum += load_as(x + i) * load_as(y + i);
  return sum;
}

template <class T>
constexpr Kernels<T> make_table() {
  using A = accumulate_t<T>;
  return {pack_rows<T, A>,       pack_panel<T, A>, attention_forward<A>, attention_backward<A>, swiglu_forward<T, A>,
          swiglu_backward<T, A>, row_maximum<A>,   row_sum_exp<A>,       row_softmax<A>,        row_dot<T, A>};
}

}  // namespace

extern const Kernels<double> float64 = make_table<double>();
extern const Kernels<float> float32 = make_table<float>();
extern const Kernels<bfloat16> brain = make_table<bfloat16>();

}  // namespace carillon::cpu::CARILLON_KERNELS
