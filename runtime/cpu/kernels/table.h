// The kernels on rows of channels, and the table of all kernels of an instruction set. Included once by each
// .cpp file of this folder, which sets the width in bytes CARILLON_VECTOR_BYTES, the register tile's rows
// CARILLON_TILE_ROWS (even) and vectors CARILLON_TILE_VECTORS, the namespace CARILLON_KERNELS, and has included one of
// the operand_*.h.
#include "runtime/cpu/kernels/attention.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

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

template <class T, class A>
void round_scaled(T* to, const A* from, A factor, int64_t count) {
  Block<T, A> block;
  for (int64_t begin = 0; begin < count; begin += block.kCount) {
    const int64_t here = count - begin < block.kCount ? count - begin : block.kCount;
    for (int64_t i = 0; i < here; ++i) block.values[i] = from[begin + i] * factor;
    block.write(to + begin, here);
  }
}

template <class T>
constexpr Kernels<T> make_table() {
  using A = accumulate_t<T>;
  return {Operand<T>::kDepth,    pack_rows<T>,         pack_panel<T>,         pack_lanes<T>,  attention_forward<T>,
          attention_backward<T>, swiglu_forward<T, A>, swiglu_backward<T, A>, row_maximum<A>, row_sum_exp<A>,
          row_softmax<A>,        round_scaled<T, A>,   row_dot<T, A>};
}

}  // namespace

extern const Kernels<double> float64 = make_table<double>();
extern const Kernels<float> float32 = make_table<float>();
extern const Kernels<bfloat16> brain = make_table<bfloat16>();

}  // namespace carillon::cpu::CARILLON_KERNELS
