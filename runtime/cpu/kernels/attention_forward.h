// The inner loops of attention's forward pass, for one block of queries against all keys; kernels.h says what lies
// where. Scores become probabilities while they are in registers; only rows whose maximum grows by more than a
// tolerance, and tiles a mask cuts, go through memory.
#pragma once

#include "runtime/cpu/kernels/tile.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// What a row's reference may lie below its maximum: so much that the probabilities of a few neighbouring keys, relative
// to the reference, add up to this. Rarely more after the first tile, and it costs no accuracy.
constexpr double kLargest = 256;

// The softmax of a block's rows as its loops see it.
template <class T>
struct ForwardRows {
  using A = accumulate_t<T>;
  alignas(64) Vector<A> sum[kForwardRows];  // by lanes, until the end
  A reference[kForwardRows];  // the maximum in powers of two; a NaN, which spoils every sum, until something was seen
  int64_t pending[kForwardRows];  // of each strip's first row: keys from here on have probabilities not yet multiplied
  A factor;                       // of scores, in powers of two

  void set(int64_t r, A maximum) {
    reference[r] = maximum == -A(__builtin_inf()) ? A(__builtin_nan("")) : maximum * A(kLog2E);
  }
};

// Scores of one tile to probabilities at p, packed along the keys. False, and nothing of use at p, when a row's
// reference must move first.
template <class T, int R>
__attribute__((noinline)) bool score_tile(const Word<T>* q, const Word<T>* k, int64_t depth, ForwardRows<T>& rows,
                                          int64_t row, Word<T>* p) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  bool folded = true;
  tile<T, R>(
      {q, depth, 1}, k, kPanel, depth, [&](TileSums<T, R> sum) __attribute__((always_inline)) {
        Above<A> above;
        Vector<A> total[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; v += 2) {
            const Vector<A> first = power_of_two(sum[r][v] * rows.factor - rows.reference[row + r], T{});
            const Vector<A> second = power_of_two(sum[r][v + 1] * rows.factor - rows.reference[row + r], T{});
            total[r] = v == 0 ? first + second : total[r] + (first + second);
            Operand<T>::put(p + r * kForwardKeys + v * kLanes / Operand<T>::kDepth, first, second);
          }
          above.test(total[r], splat(A(kLargest)));
        }
        folded = !above.any();
        if (__builtin_expect(folded, 1))
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) rows.sum[row + r] += total[r];
      });
  return folded;
}

// One row of a tile by way of memory: keys [from, to) of its kTileWidth are seen, the others' scores are no matter.
template <class T>
void fold_row(const ForwardBlock<accumulate_t<T>>& block, ForwardRows<T>& rows, int64_t r, accumulate_t<T>* score,
              int64_t from, int64_t to, Word<T>* p) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  constexpr int64_t kWidth = kTileWidth<A>;
  const int64_t padded = round_to_panel(block.head_dim);
  const A negative = -__builtin_inf();
  for (int64_t j = 0; j < least(from, kWidth); ++j) score[j] = negative;
  for (int64_t j = most(to, 0); j < kWidth; ++j) score[j] = negative;
  Vector<A> lanes = splat(negative);
  for (int64_t j = 0; j < kWidth; j += kLanes) lanes = larger<A>(load(score + j), lanes);
  const A maximum = horizontal_maximum<A>(lanes * block.scale), before = block.maximum[r];
  if (maximum > before) {
    const A shrink = before == negative ? A(0) : exponential(splat(before - maximum))[0];
    block.maximum[r] = maximum;
    rows.set(r, maximum);
    rows.sum[r] = rows.sum[r] * shrink;
    for (int64_t d = 0; d < padded; d += kLanes)
      store(block.out + r * padded + d, load(block.out + r * padded + d) * shrink);
  }
  // Nothing seen yet (or NaN only): every entry counts as zero, but not a NaN.
  const bool nothing = block.maximum[r] == negative;
  for (int64_t j = 0; j < kWidth; j += 2 * kLanes) {
    Vector<A> probability[2];
    for (int i = 0; i < 2; ++i) {
      const Vector<A> value = load(score + j + i * kLanes);
      if (nothing)
        probability[i] = value == value ? Vector<A>{} : value;
      else
        probability[i] =
            value == splat(negative) ? Vector<A>{} : power_of_two(value * rows.factor - rows.reference[r], T{});
    }
    if (!nothing) rows.sum[r] += probability[0] + probability[1];
    Operand<T>::put(p + j / Operand<T>::kDepth, probability[0], probability[1]);
  }
}

// The walk of one block of queries through the keys.
template <class T>
struct Forward {
  using A = accumulate_t<T>;
  static constexpr int64_t kDepth = Operand<T>::kDepth;
  const ForwardBlock<A>& block;
  ForwardRows<T>& rows;
  int64_t padded = round_to_panel(block.head_dim), depth = words<T>(block.head_dim);
  const Word<T>* q = static_cast<const Word<T>*>(block.q);
  const Word<T>* k_panels = static_cast<const Word<T>*>(block.k_panels);
  const Word<T>* v_lanes = static_cast<const Word<T>*>(block.v_lanes);
  Word<T>* probabilities = reinterpret_cast<Word<T>*>(block.scores);  // [rows][kForwardKeys]

  // Adds what the probabilities of keys [pending, end) of the `count` rows from r on weigh; `key` is the first the
  // probabilities' memory stands for.
  void multiply(int64_t r, int64_t count, int64_t key, int64_t end) const {
    const int64_t begin = rows.pending[r];
    if (begin < end)
      for (int64_t d = 0; d < padded; d += kPanel)
        strip<T>(count, {probabilities + r * kForwardKeys + (begin - key) / kDepth, kForwardKeys, 1},
                 v_lanes + begin / kDepth * padded + d, padded, block.out + r * padded + d, padded,
                 words<T>(end - begin), true);
    rows.pending[r] = end;
  }

  // One tile of `count` <= R rows from r on against keys [at, at + width). whole: every row sees all of them.
  template <int R = kStrip>
  void fold(int64_t r, int64_t count, int64_t key, int64_t at, bool whole) const {
    if constexpr (R > 1)
      if (count < R) return fold<R - 1>(r, count, key, at, whole);
    constexpr int64_t kWidth = kTileWidth<A>;
    const Word<T>* panel = k_panels + at / kPanel * kPanel * depth + at % kPanel;
    Word<T>* p = probabilities + r * kForwardKeys + (at - key) / kDepth;
    if (whole && score_tile<T, R>(q + r * depth, panel, depth, rows, r, p)) return;
    A scores[R * kWidth];
    tile_product<T, R>(q + r * depth, depth, 1, panel, kPanel, scores, kWidth, depth, false);
    multiply(r, count, key, at);  // under the references as they are
    for (int64_t i = r; i < r + count; ++i)
      fold_row<T>(block, rows, i, scores + (i - r) * kWidth, block.visible[i].begin - at, block.visible[i].end - at,
                  p + (i - r) * kForwardKeys);
  }

  // Rows [group, group_end), so few that their probabilities stay in the first cache from one product to the next,
  // against keys [key, key + keys).
  void run_group(int64_t group, int64_t group_end, int64_t key, int64_t keys) const {
    const Visible* visible = block.visible;
    // What a strip sees of these keys, in whole panels and exactly: both ends of the intervals are non-decreasing.
    const auto strip_end = [&](int64_t r) { return least(r + kStrip, group_end); };
    const auto low_of = [&](int64_t r) { return most(visible[r].begin, key) / kPanel * kPanel; };
    const auto end_of = [&](int64_t r) { return least(visible[strip_end(r) - 1].end, key + keys); };
    for (int64_t r = group; r < group_end; r += kStrip) rows.pending[r] = low_of(r);
    for (int64_t panel = low_of(group); panel < key + keys; panel += kPanel)
      for (int64_t r = group; r < group_end; r += kStrip) {
        if (panel < low_of(r) || panel >= end_of(r)) continue;
        const bool whole = visible[strip_end(r) - 1].begin <= panel && visible[r].end >= panel + kPanel;
        for (int64_t at = panel; at < least(panel + kPanel, end_of(r)); at += kTileWidth<A>)
          fold(r, strip_end(r) - r, key, at, whole);
      }
    for (int64_t r = group; r < group_end; r += kStrip) multiply(r, strip_end(r) - r, key, end_of(r));
  }
};

template <class T>
void attention_forward(const ForwardBlock<accumulate_t<T>>& block) {
  using A = accumulate_t<T>;
  ForwardRows<T> rows;
  rows.factor = block.scale * A(kLog2E);
  for (int64_t r = 0; r < block.rows; ++r) {
    rows.set(r, block.maximum[r]);
    rows.sum[r] = Vector<A>{};
    rows.sum[r][0] = block.sum[r];
  }
  const Forward<T> forward{block, rows};
  const Visible* visible = block.visible;
  const int64_t begin_key = visible[0].begin / kPanel * kPanel, end_key = visible[block.rows - 1].end;
  for (int64_t key = begin_key; key < end_key; key += kForwardKeys) {
    const int64_t keys = least(kForwardKeys, end_key - key);
    // Strips that see something of these keys stand together.
    int64_t from = 0, to = block.rows;
    while (from < to && visible[from].end <= key) ++from;
    while (to > from && visible[to - 1].begin >= key + keys) --to;
    for (int64_t group = from; group < to; group += kForwardGroup * kStrip)
      forward.run_group(group, least(to, group + kForwardGroup * kStrip), key, keys);
  }
  for (int64_t r = 0; r < block.rows; ++r) block.sum[r] = horizontal_sum<A>(rows.sum[r]);
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
