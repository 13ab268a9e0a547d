// The inner loops of attention, for one block of queries and keys at a time; kernels.h says what lies where. All
// products go through one register tile of CARILLON_TILE_ROWS rows by CARILLON_TILE_VECTORS vectors: a strip of rows
// and a panel of columns are its multiples, and what a mask hides is left out by whole strips and panels.
#pragma once

#include "runtime/cpu/kernels/vectors.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

constexpr int kStrip = CARILLON_TILE_ROWS;
static_assert(kStrip % 2 == 0, "rows of a strip are stored in pairs");

constexpr double kLog2E = 1.4426950408889634;

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
using Word = typename Operand<T>::Word;
template <class T>
inline int64_t words(int64_t elements) {
  return (elements + Operand<T>::kDepth - 1) / Operand<T>::kDepth;
}

// One operand of a product: the word of row r and inner index k stands at data[r·row + k·inner].
template <class T>
struct Left {
  const Word<T>* data;
  int64_t row;
  int64_t inner;
};
// c[R][Vectors·lanes] (+)= Σ_k left(r, k) · b[k·b_stride + …], k counting words. The loops over the tile are unrolled
// by order: else the compiler keeps the sums in memory.
template <class T, int R>
__attribute__((noinline)) void tile(const Word<T>* left, int64_t left_row, int64_t left_inner, const Word<T>* b,
                                    int64_t b_stride, accumulate_t<T>* c, int64_t c_stride, int64_t depth, bool add) {
  using A = accumulate_t<T>;
  constexpr int kVectors = CARILLON_TILE_VECTORS, kLanes = Lanes<A>::kCount;
  Vector<A> sum[R][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Vector<A>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<A> column[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) column[v] = load(reinterpret_cast<const A*>(b + k * b_stride) + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Word<T> value = left[r * left_row + k * left_inner];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Operand<T>::multiply_add(value, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      A* to = c + r * c_stride + v * kLanes;
      store(to, add ? load(to) + sum[r][v] : sum[r][v]);
    }
}

// The same for `rows` <= R rows and kPanel columns.
template <class T, int R = kStrip>
inline void strip(int64_t rows, Left<T> left, const Word<T>* b, int64_t b_stride, accumulate_t<T>* c, int64_t c_stride,
                  int64_t depth, bool add) {
  constexpr int64_t kWidth = CARILLON_TILE_VECTORS * Lanes<accumulate_t<T>>::kCount;
  static_assert(kPanel % kWidth == 0);
  if (rows == R) {
    for (int64_t column = 0; column < kPanel; column += kWidth)
      tile<T, R>(left.data, left.row, left.inner, b + column, b_stride, c + column, c_stride, depth, add);
  } else if constexpr (R > 1) {
    strip<T, R - 1>(rows, left, b, b_stride, c, c_stride, depth, add);
  }
}

// Words of a row of the backward pass's scratch.
template <class T>
constexpr int64_t kBackwardWords = kBackwardQueries / Operand<T>::kDepth;

template <class T>
void pack_rows(void* packed, const T* from, int64_t stride, int64_t rows, int64_t head_dim) {
  using O = Operand<T>;
  Word<T>* to = static_cast<Word<T>*>(packed);
  const int64_t whole = head_dim / O::kDepth;
  for (int64_t r = 0; r < rows; ++r, from += stride) {
    for (int64_t d = 0; d < whole; ++d) *to++ = O::make(from + d * O::kDepth, from + d * O::kDepth + O::kDepth - 1);
    if (whole * O::kDepth < head_dim) *to++ = O::make(from + head_dim - 1, nullptr);
  }
}

template <class T>
void pack_panel(void* packed, const T* from, int64_t stride, int64_t rows, int64_t head_dim) {
  using O = Operand<T>;
  Word<T>* to = static_cast<Word<T>*>(packed);
  const int64_t depth = words<T>(head_dim), whole = head_dim / O::kDepth;
  if (rows < kPanel)
    for (int64_t i = 0; i < depth * kPanel; ++i) to[i] = O::zero();
  // By blocks of lines: reads and writes both stay in a few cache lines.
  for (int64_t first = 0; first < depth; first += 16)
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = from + r * stride;
      const int64_t end = least(first + 16, whole);
      for (int64_t d = first; d < end; ++d)
        to[d * kPanel + r] = O::make(row + d * O::kDepth, row + d * O::kDepth + O::kDepth - 1);
      if (first + 16 >= depth && whole < depth) to[whole * kPanel + r] = O::make(row + head_dim - 1, nullptr);
    }
}

template <class T>
void pack_lanes(void* packed, const T* from, int64_t stride, int64_t rows, int64_t head_dim) {
  using O = Operand<T>;
  Word<T>* to = static_cast<Word<T>*>(packed);
  const int64_t padded = round_to_panel(head_dim);
  for (int64_t r = 0; r < rows; r += O::kDepth, to += padded) {
    const T* first = from + r * stride;
    const T* second = r + O::kDepth - 1 < rows ? first + (O::kDepth - 1) * stride : nullptr;
    if (second != nullptr)
      for (int64_t d = 0; d < head_dim; ++d) to[d] = O::make(first + d, second + d);
    else
      for (int64_t d = 0; d < head_dim; ++d) to[d] = O::make(first + d, nullptr);
    for (int64_t d = head_dim; d < padded; ++d) to[d] = O::zero();
  }
}

// So far above its reference a row's maximum may come before the reference is moved: rarely after the first block, and
// e^5 costs no accuracy.
constexpr double kTolerance = 5;

// Softmax of one row over scores [low, high) of which it sees [from, to), folded into its state; the scores become
// probabilities, packed along the keys in the same memory (words are as wide as scores). `sum`: the row's, by lanes.
template <class T, bool ragged>
inline void fold_row(const ForwardBlock<accumulate_t<T>>& block, int64_t r, accumulate_t<T>* row, int64_t low,
                     int64_t high, int64_t from, int64_t to, Vector<accumulate_t<T>>& row_sum) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  const int64_t padded = round_to_panel(block.head_dim);
  const A negative = -__builtin_inf();
  Word<T>* packed = reinterpret_cast<Word<T>*>(row);
  if constexpr (ragged) {
    for (int64_t j = low; j < least(from, high); ++j) row[j] = negative;
    for (int64_t j = most(to, low); j < high; ++j) row[j] = negative;
  }
  Vector<A> largest[4] = {splat(negative), splat(negative), splat(negative), splat(negative)};
  for (int64_t j = low; j < high; j += 4 * kLanes)
    for (int i = 0; i < 4; ++i) largest[i] = larger<A>(load(row + j + i * kLanes), largest[i]);
  const Vector<A> lanes = larger<A>(larger<A>(largest[0], largest[1]), larger<A>(largest[2], largest[3])) * block.scale;
  const A before = block.maximum[r];
  if (any_larger(lanes, before + A(kTolerance))) {
    const A maximum = horizontal_maximum<A>(lanes);
    const A shrink = before == negative ? A(0) : exponential(splat(before - maximum))[0];
    block.maximum[r] = maximum;
    row_sum = row_sum * shrink;
    for (int64_t d = 0; d < padded; d += kLanes)
      store(block.out + r * padded + d, load(block.out + r * padded + d) * shrink);
  } else if (before == negative) {  // nothing seen yet (or NaN only): every entry must count as zero, but not a NaN
    for (int64_t j = low; j < high; j += 2 * kLanes) {
      const Vector<A> first = load(row + j), second = load(row + j + kLanes);
      Operand<T>::put(packed + j / Operand<T>::kDepth, first == first ? Vector<A>{} : first,
                      second == second ? Vector<A>{} : second);
    }
    return;
  }
  const A factor = block.scale * A(kLog2E), reference = block.maximum[r] * A(kLog2E);
  Vector<A> sum[2] = {row_sum, {}};
  for (int64_t j = low; j < high; j += 2 * kLanes) {
    const Vector<A> first_score = load(row + j), second_score = load(row + j + kLanes);
    Vector<A> first = power_of_two(first_score * factor - reference, T{});
    Vector<A> second = power_of_two(second_score * factor - reference, T{});
    if constexpr (ragged) {
      first = first_score == splat(negative) ? Vector<A>{} : first;
      second = second_score == splat(negative) ? Vector<A>{} : second;
    }
    sum[0] += first;
    sum[1] += second;
    Operand<T>::put(packed + j / Operand<T>::kDepth, first, second);
  }
  row_sum = sum[0] + sum[1];
}

template <class T>
void attention_forward(const ForwardBlock<accumulate_t<T>>& block) {
  constexpr int64_t kDepth = Operand<T>::kDepth;
  const int64_t padded = round_to_panel(block.head_dim), depth = words<T>(block.head_dim);
  const Word<T>* q = static_cast<const Word<T>*>(block.q);
  const Word<T>* k_panels = static_cast<const Word<T>*>(block.k_panels);
  const Word<T>* v_lanes = static_cast<const Word<T>*>(block.v_lanes);
  const Visible* visible = block.visible;
  Vector<accumulate_t<T>> sums[kForwardRows];  // by lanes, until the end
  for (int64_t r = 0; r < block.rows; ++r) {
    sums[r] = Vector<accumulate_t<T>>{};
    sums[r][0] = block.sum[r];
  }
  const int64_t begin_key = visible[0].begin / kPanel * kPanel, end_key = visible[block.rows - 1].end;
  for (int64_t key = begin_key; key < end_key; key += kForwardKeys) {
    const int64_t keys = least(kForwardKeys, end_key - key);
    // Strips that see something of these keys stand together: both ends of the intervals are non-decreasing.
    int64_t from = 0, to = block.rows;
    while (from < to && visible[from].end <= key) ++from;
    while (to > from && visible[to - 1].begin >= key + keys) --to;
    // So few rows at a time that their scores stay in the first cache from one product to the next.
    for (int64_t group = from; group < to; group += kForwardGroup * kStrip) {
      const int64_t group_end = least(to, group + kForwardGroup * kStrip);
      // What a strip sees of these keys, in whole panels and exactly.
      const auto low_of = [&](int64_t r) { return most(visible[r].begin - key, 0) / kPanel * kPanel; };
      const auto end_of = [&](int64_t r) {
        return most(0, least(visible[least(r + kStrip, group_end) - 1].end - key, keys));
      };
      for (int64_t panel = low_of(group); panel < keys; panel += kPanel)
        for (int64_t r = group; r < group_end; r += kStrip)
          if (low_of(r) <= panel && panel < end_of(r))
            strip<T>(least(kStrip, group_end - r), {q + r * depth, depth, 1}, k_panels + (key + panel) * depth, kPanel,
                     block.scores + r * kForwardKeys + panel, kForwardKeys, depth, false);
      for (int64_t r = group; r < group_end; r += kStrip) {
        const int64_t rows = least(kStrip, group_end - r), low = low_of(r), end = end_of(r);
        if (low >= end) continue;
        for (int64_t i = r; i < r + rows; ++i) {
          const int64_t high = round_to_panel(end), first = visible[i].begin - key, last = visible[i].end - key;
          (low < first || last < high ? fold_row<T, true> : fold_row<T, false>)(block, i,
                                                                                block.scores + i * kForwardKeys, low,
                                                                                high, first, last, sums[i]);
        }
        const Word<T>* p = reinterpret_cast<const Word<T>*>(block.scores + r * kForwardKeys) + low / kDepth;
        for (int64_t d = 0; d < padded; d += kPanel)
          strip<T>(rows, {p, kForwardKeys, 1}, v_lanes + (key + low) / kDepth * padded + d, padded,
                   block.out + r * padded + d, padded, words<T>(end - low), true);
      }
    }
  }
  for (int64_t r = 0; r < block.rows; ++r) block.sum[r] = horizontal_sum<accumulate_t<T>>(sums[r]);
}

// One strip of keys against one panel of queries: probabilities and the gradient by the scores, written as operands.
template <class T>
inline void score_gradients(const BackwardBlock<accumulate_t<T>>& block, int64_t key, int64_t rows, int64_t panel,
                            const int64_t* from, const int64_t* to) {
  using A = accumulate_t<T>;
  using O = Operand<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  const int64_t depth = words<T>(block.head_dim);
  A scores[kStrip][kPanel], slopes[kStrip][kPanel];
  strip<T>(rows, {static_cast<const Word<T>*>(block.k_rows) + key * depth, depth, 1},
           static_cast<const Word<T>*>(block.q_panels) + panel * depth, kPanel, scores[0], kPanel, depth, false);
  strip<T>(rows, {static_cast<const Word<T>*>(block.v_rows) + key * depth, depth, 1},
           static_cast<const Word<T>*>(block.dout_panels) + panel * depth, kPanel, slopes[0], kPanel, depth, false);
  const A factor = block.scale * A(kLog2E);
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t i = 0; i < kPanel; i += kLanes) {
      const Vector<A> p = power_of_two(load(scores[j] + i) * factor - load(block.lse + panel + i), T{});
      store(scores[j] + i, p);
      store(slopes[j] + i, p * (load(slopes[j] + i) - load(block.delta + panel + i)));
    }
    if (from[j] > panel || to[j] < panel + kPanel) {
      for (int64_t i = 0; i < least(from[j] - panel, kPanel); ++i) scores[j][i] = slopes[j][i] = 0;
      for (int64_t i = most(to[j] - panel, 0); i < kPanel; ++i) scores[j][i] = slopes[j][i] = 0;
    }
    Word<T>* p = static_cast<Word<T>*>(block.p) + (key + j) * kBackwardWords<T> + panel / O::kDepth;
    Word<T>* ds = static_cast<Word<T>*>(block.ds) + (key + j) * kBackwardWords<T> + panel / O::kDepth;
    for (int64_t i = 0; i < kPanel; i += 2 * kLanes) {
      O::put(p + i / O::kDepth, load(scores[j] + i), load(scores[j] + i + kLanes));
      O::put(ds + i / O::kDepth, load(slopes[j] + i), load(slopes[j] + i + kLanes));
    }
  }
  if constexpr (O::kDepth == 2) {
    // The product by the keys wants pairs of keys: a second copy, the other way round.
    for (int64_t i = 0; i < kPanel && rows % 2 == 1; i += kLanes) store(slopes[rows] + i, Vector<A>{});
    for (int64_t j = 0; j < rows; j += 2)
      for (int64_t i = 0; i < kPanel; i += kLanes)
        O::put_across(static_cast<Word<T>*>(block.ds_across) + (key + j) / 2 * kBackwardQueries + panel + i,
                      load(slopes[j] + i), load(slopes[j + 1] + i));
  }
}

template <class T>
void attention_backward(const BackwardBlock<accumulate_t<T>>& block) {
  constexpr int64_t kDepth = Operand<T>::kDepth;
  const int64_t padded = round_to_panel(block.head_dim), wide = round_to_panel(block.queries);
  // Which queries see a key: a run, because both ends of their intervals are non-decreasing. from[j] and to[j] are too.
  int64_t from[kBackwardKeys], to[kBackwardKeys];
  for (int64_t j = 0, a = 0, b = 0; j < block.keys; ++j) {
    while (a < block.queries && block.visible[a].end <= block.first_key + j) ++a;
    while (b < block.queries && block.visible[b].begin <= block.first_key + j) ++b;
    from[j] = a;
    to[j] = most(a, b);
  }
  Word<T>* p = static_cast<Word<T>*>(block.p);
  Word<T>* ds = static_cast<Word<T>*>(block.ds);
  Word<T>* ds_across = kDepth == 2 ? static_cast<Word<T>*>(block.ds_across) : ds;
  for (int64_t panel = 0; panel < wide; panel += kPanel)
    for (int64_t j = 0; j < block.keys; j += kStrip) {
      const int64_t rows = least(kStrip, block.keys - j);
      if (from[j] < panel + kPanel && to[j + rows - 1] > panel && from[j] < to[j + rows - 1]) {
        score_gradients<T>(block, j, rows, panel, from + j, to + j);
      } else {  // nobody sees anything, but a product may pass over it
        for (int64_t r = j; r < j + rows; r += kDepth)
          for (int64_t i = 0; i < kPanel; ++i) ds_across[r / kDepth * kBackwardQueries + panel + i] = 0;
      }
    }
  const Word<T>* q_lanes = static_cast<const Word<T>*>(block.q_lanes);
  const Word<T>* dout_lanes = static_cast<const Word<T>*>(block.dout_lanes);
  const Word<T>* k_lanes = static_cast<const Word<T>*>(block.k_lanes);
  for (int64_t j = 0; j < block.keys; j += kStrip) {
    const int64_t rows = least(kStrip, block.keys - j), first = from[j] / kDepth, end = words<T>(to[j + rows - 1]);
    if (first >= end) continue;
    const int64_t at = j * kBackwardWords<T> + first;
    for (int64_t d = 0; d < padded; d += kPanel) {
      strip<T>(rows, {p + at, kBackwardWords<T>, 1}, dout_lanes + first * padded + d, padded, block.dv + j * padded + d,
               padded, end - first, true);
      strip<T>(rows, {ds + at, kBackwardWords<T>, 1}, q_lanes + first * padded + d, padded, block.dk + j * padded + d,
               padded, end - first, true);
    }
  }
  for (int64_t i = 0; i < block.queries; i += kStrip) {
    const int64_t rows = least(kStrip, block.queries - i);
    const int64_t first = most(block.visible[i].begin - block.first_key, 0) / kDepth;
    const int64_t end = words<T>(most(0, least(block.visible[i + rows - 1].end - block.first_key, block.keys)));
    if (first >= end) continue;
    for (int64_t d = 0; d < padded; d += kPanel)
      strip<T>(rows, {ds_across + first * kBackwardQueries + i, 1, kBackwardQueries}, k_lanes + first * padded + d,
               padded, block.dq + i * padded + d, padded, end - first, true);
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
