// The inner loops of attention's forward pass, for one block of queries against all keys; kernels.h describes the
// layouts. Scores become probabilities while they are in registers; only tiles with a row whose maximum grows by more
// than a tolerance go through memory.
#pragma once

#include "runtime/cpu/kernels/tile.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// Bounds how far a row's reference may lie below its maximum: the probabilities of a few neighbouring keys, relative to
// the reference, may add up to this. After the first tile that is rarely exceeded, and it costs no accuracy.
constexpr double kLargest = 256;

// Words per row of probabilities.
template <class T>
constexpr int64_t kProbabilityWords = kForwardKeys / Operand<T>::kDepth;

// The running softmax of the rows of a block.
template <class T>
struct ForwardRows {
  using A = accumulate_t<T>;
  alignas(64) Vector<A> sum[kForwardRows];  // per lane; the lanes are added at the end
  A reference[kForwardRows];  // the maximum in powers of two; NaN, which spoils every sum, until the row saw a key
  A factor;                   // of scores, in powers of two

  void set(int64_t r, A maximum) {
    reference[r] = maximum == -A(__builtin_inf()) ? A(__builtin_nan("")) : maximum * A(kLog2E);
  }
};

// Turns the scores of one tile into probabilities at p, packed along the keys. With `cut`, the probabilities of row r
// outside visible[r] become 0; the tile starts at key `at`. Returns false, with p undefined, if the reference of a row
// must move first.
template <class T, int R, bool cut>
__attribute__((noinline)) bool score_tile(const Word<T>* q, const Word<T>* k, int64_t depth, ForwardRows<T>& rows,
                                          int64_t row, Word<T>* p, const Visible* visible, int64_t at) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  bool folded = true;
  tile<T, R>(
      {q, depth, 1}, k, kPanel, depth, [&](TileSums<T, R> sum) __attribute__((always_inline)) {
        Above<A> above;
        Vector<A> total[R];
#pragma GCC unroll kUnrolledRows
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; v += 2) {
            Vector<A> first = power_of_two(sum[r][v] * rows.factor - rows.reference[row + r], T{});
            Vector<A> second = power_of_two(sum[r][v + 1] * rows.factor - rows.reference[row + r], T{});
            if constexpr (cut) {
              const int64_t begin = visible[r].begin - at - v * kLanes, end = visible[r].end - at - v * kLanes;
              first = within<A>(first, begin, end);
              second = within<A>(second, begin - kLanes, end - kLanes);
            }
            total[r] = v == 0 ? first + second : total[r] + (first + second);
            Operand<T>::put(p + r * kProbabilityWords<T> + v * kLanes / Operand<T>::kDepth, first, second);
          }
          above.test(total[r], splat(A(kLargest)));
        }
        folded = !above.any();
        if (__builtin_expect(folded, 1))
#pragma GCC unroll kUnrolledRows
          for (int r = 0; r < R; ++r) rows.sum[row + r] += total[r];
      });
  return folded;
}

// Folds one row of a tile from memory: the row sees keys [from, to) of the kTileWidth; other scores are ignored.
template <class T>
void fold_row(const ForwardBlock<accumulate_t<T>>& block, ForwardRows<T>& rows, int64_t r, accumulate_t<T>* score,
              int64_t from, int64_t to, Word<T>* p) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  constexpr int64_t kWidth = kTileWidth<A>;
  const int64_t padded = padded_width(block.head_dim);
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
  // If the row has seen nothing yet (or only NaN), every entry counts as 0, except that a NaN stays.
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
    rows.sum[r] += probability[0] + probability[1];
    Operand<T>::put(p + j / Operand<T>::kDepth, probability[0], probability[1]);
  }
}

// Walks one block of queries through the keys.
template <class T>
struct Forward {
  using A = accumulate_t<T>;
  static constexpr int64_t kDepth = Operand<T>::kDepth;
  const ForwardBlock<A>& block;
  ForwardRows<T>& rows;
  int64_t padded = padded_width(block.head_dim), depth = words<T>(block.head_dim);
  const Word<T>* q = static_cast<const Word<T>*>(block.q);
  const Word<T>* k_panels = static_cast<const Word<T>*>(block.k_panels);
  const Word<T>* v_lanes = static_cast<const Word<T>*>(block.v_lanes);
  Word<T>* probabilities = reinterpret_cast<Word<T>*>(block.scores);  // [rows][kProbabilityWords]

  // `count` rows starting at `row`, and which of the current keys they see.
  struct Strip {
    int64_t row, count;
    int64_t low, end;                // keys that some row sees; low rounded down to a panel
    int64_t whole_begin, whole_end;  // keys that every row sees
    int64_t pending;                 // probabilities of the keys from here on are not yet multiplied by the values
  };

  Strip make_strip(int64_t row, int64_t group_end, int64_t key, int64_t keys) const {
    Strip strip;
    strip.row = row;
    strip.count = strip_rows(group_end - row);
    // Both ends of the intervals are non-decreasing.
    const Visible first = block.visible[row], last = block.visible[row + strip.count - 1];
    strip.low = strip.pending = most(first.begin, key) / kPanel * kPanel;
    strip.end = least(last.end, key + keys);
    strip.whole_begin = last.begin;
    strip.whole_end = first.end;
    return strip;
  }

  // Multiplies the probabilities of the pending keys up to `end` by the values and adds to the output. The
  // probabilities in memory start at `key`.
  void multiply(Strip& s, int64_t key, int64_t end) const {
    if (s.pending < end)
      strip<T>(s.count, padded,
               {probabilities + s.row * kProbabilityWords<T> + (s.pending - key) / kDepth, kProbabilityWords<T>, 1},
               v_lanes + s.pending / kDepth * padded, padded, block.out + s.row * padded, padded,
               words<T>(end - s.pending), true);
    s.pending = end;
  }

  // Computes one tile against keys [at, at + width).
  template <int R = kStrip>
  __attribute__((always_inline)) void fold(Strip& s, int64_t key, int64_t at) const {
    if constexpr (R > 1)
      if (s.count < R) return fold<fewer_rows(R)>(s, key, at);
    constexpr int64_t kWidth = kTileWidth<A>;
    const Word<T>* left = q + s.row * depth;
    const Word<T>* panel = k_panels + at / kPanel * kPanel * depth + at % kPanel;
    Word<T>* p = probabilities + s.row * kProbabilityWords<T> + (at - key) / kDepth;
    const Visible* visible = block.visible + s.row;
    const A reference = rows.reference[s.row];
    if (reference == reference) {  // not NaN: the strip's first row has seen a key
      const bool whole = s.whole_begin <= at && at + kWidth <= s.whole_end;
      if (whole ? score_tile<T, R, false>(left, panel, depth, rows, s.row, p, visible, at)
                : score_tile<T, R, true>(left, panel, depth, rows, s.row, p, visible, at))
        return;
    }
    fold_anew<R>(s, key, at, left, panel, p);
  }

  // The same, moving the references of the rows.
  template <int R>
  __attribute__((noinline)) void fold_anew(Strip& s, int64_t key, int64_t at, const Word<T>* left, const Word<T>* panel,
                                           Word<T>* p) const {
    constexpr int64_t kWidth = kTileWidth<A>;
    A scores[R * kWidth];
    tile_product<T, R>(left, depth, 1, panel, kPanel, scores, kWidth, depth, false);
    multiply(s, key, at);  // before the references move
    for (int64_t i = 0; i < R; ++i) {
      const Visible visible = block.visible[s.row + i];
      fold_row<T>(block, rows, s.row + i, scores + i * kWidth, visible.begin - at, visible.end - at,
                  p + i * kProbabilityWords<T>);
    }
  }

  // Computes rows [group, group_end) against keys [key, key + keys). The rows are few enough that their probabilities
  // stay in the L1 cache from one product to the next.
  void run_group(int64_t group, int64_t group_end, int64_t key, int64_t keys) const {
    Strip strips[kForwardGroup + 3];  // the last rows may need several strips
    int64_t count = 0, row = group;
    do {
      strips[count] = make_strip(row, group_end, key, keys);
      row += strips[count++].count;
    } while (row < group_end);
    for (int64_t panel = strips[0].low; panel < key + keys; panel += kPanel)
      for (int64_t i = 0; i < count; ++i) {
        if (panel < strips[i].low) continue;
        const int64_t end = least(panel + kPanel, strips[i].end);
        for (int64_t at = panel; at < end; at += kTileWidth<A>) fold(strips[i], key, at);
      }
    for (int64_t i = 0; i < count; ++i) multiply(strips[i], key, strips[i].end);
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
  const TilesInUse tiles;
  const Forward<T> forward{block, rows};
  const Visible* visible = block.visible;
  const int64_t begin_key = visible[0].begin / kPanel * kPanel, end_key = visible[block.rows - 1].end;
  for (int64_t key = begin_key; key < end_key; key += kForwardKeys) {
    const int64_t keys = least(kForwardKeys, end_key - key);
    // The rows that see some of these keys are contiguous.
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
