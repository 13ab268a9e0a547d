// The inner loops of attention's backward pass, for one block of keys against one block of queries; kernels.h describes
// the layouts. Scores and their gradients are packed into operands while they are in registers.
#pragma once

#include "runtime/cpu/kernels/tile.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// Words per row of the backward pass's scratch.
template <class T>
constexpr int64_t kBackwardWords = kBackwardQueries / Operand<T>::kDepth;

// Where the probabilities, and the gradients of the scores, of one strip of keys against one panel of queries go.
template <class T>
struct ScoreGradients {
  using A = accumulate_t<T>;
  A* probability;        // [kStrip][kPanel], for the gradients
  Word<T>*p, *ds;        // operands with the inner dim along the queries, kBackwardWords per row
  Word<T>* ds_across;    // the same along the keys, kBackwardQueries per word of keys; only with depth 2
  const A *lse, *delta;  // of the panel's queries
  A factor;              // of scores, in powers of two
  // Queries [from, to) that see each key of the strip; `panel` is the panel's first query.
  const int64_t *from, *to, panel;
};

// Computes a tile of the strip's products, starting at `column` of the panel. Replaces each vector by value(row, column
// of the vector, vector); with `cut`, also sets entries to 0 whose key is not seen. Calls done(row, all rows) after
// each row.
template <class T, int R, bool cut, class Value, class Done>
__attribute__((always_inline)) inline void gradient_tile(Left<T> keys, const Word<T>* queries, int64_t depth,
                                                         const ScoreGradients<T>& at, int64_t column, Value value,
                                                         Done done) {
  using A = accumulate_t<T>;
  tile<T, R>(
      keys, queries + column, kPanel, depth, [&](TileSums<T, R> sum) __attribute__((always_inline)) {
#pragma GCC unroll kUnrolledRows
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; ++v) {
            const int64_t i = column + v * Lanes<A>::kCount;
            sum[r][v] = value(r, i, sum[r][v]);
            if constexpr (cut) sum[r][v] = within<A>(sum[r][v], at.from[r] - at.panel - i, at.to[r] - at.panel - i);
          }
          done(r, sum);
        }
      });
}

// Stores row r of the results as an operand whose inner dim runs along the row.
template <class T, int R>
__attribute__((always_inline)) inline void put_row(Word<T>* to, int64_t column, int r, TileSums<T, R> rows) {
  using O = Operand<T>;
  constexpr int kLanes = Lanes<accumulate_t<T>>::kCount;
#pragma GCC unroll 8
  for (int v = 0; v < kTileVectors; v += 2)
    O::put(to + r * kBackwardWords<T> + (column + v * kLanes) / O::kDepth, rows[r][v], rows[r][v + 1]);
}

template <class T, int R, bool cut>
__attribute__((noinline)) void probability_tile(const Word<T>* keys, const Word<T>* queries, int64_t depth,
                                                const ScoreGradients<T>& to, int64_t column) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  gradient_tile<T, R, cut>(
      {keys, depth, 1}, queries, depth, to, column,
      [&](int, int64_t i, Vector<A> score)
          __attribute__((always_inline)) { return power_of_two(score * to.factor - load(to.lse + i), T{}); },
      [&](int r, TileSums<T, R> probability) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int v = 0; v < kTileVectors; ++v)
          store(to.probability + r * kPanel + column + v * kLanes, probability[r][v]);
        put_row<T, R>(to.p, column, r, probability);
      });
}

template <class T, int R, bool cut>
__attribute__((noinline)) void slope_tile(const Word<T>* values, const Word<T>* gradients, int64_t depth,
                                          const ScoreGradients<T>& to, int64_t column) {
  using A = accumulate_t<T>;
  using O = Operand<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  gradient_tile<T, R, cut>(
      {values, depth, 1}, gradients, depth, to, column,
      [&](int r, int64_t i, Vector<A> by_probability) __attribute__((always_inline)) {
        return load(to.probability + r * kPanel + i) * (by_probability - load(to.delta + i));
      },
      [&](int r, TileSums<T, R> slope) __attribute__((always_inline)) {
        put_row<T, R>(to.ds, column, r, slope);
        // The product by the keys needs words of keys, so rows are paired; a last odd row is paired with zeros.
        if constexpr (O::kDepth == 2)
          if (r % 2 == 1 || r == R - 1)
#pragma GCC unroll 8
            for (int v = 0; v < kTileVectors; ++v)
              O::put_across(to.ds_across + r / 2 * kBackwardQueries + column + v * kLanes, slope[r / 2 * 2][v],
                            r % 2 == 1 ? slope[r][v] : Vector<A>{});
      });
}

// Computes the strip of `rows` <= R keys starting at `key` against the panel of queries starting at `panel`.
template <class T, int R = kStrip>
void score_gradients(const BackwardBlock<accumulate_t<T>>& block, int64_t key, int64_t rows, int64_t panel,
                     const int64_t* from, const int64_t* to) {
  if constexpr (R > 1)
    if (rows < R) return score_gradients<T, fewer_rows(R)>(block, key, rows, panel, from, to);
  using A = accumulate_t<T>;
  constexpr int64_t kDepth = Operand<T>::kDepth;
  const int64_t depth = words<T>(block.head_dim);
  const Word<T>* k = static_cast<const Word<T>*>(block.k_rows) + key * depth;
  const Word<T>* v = static_cast<const Word<T>*>(block.v_rows) + key * depth;
  const Word<T>* q = static_cast<const Word<T>*>(block.q_panels) + panel * depth;
  const Word<T>* dout = static_cast<const Word<T>*>(block.dout_panels) + panel * depth;
  alignas(64) A probability[R * kPanel];
  const int64_t operand = key * kBackwardWords<T> + panel / kDepth;
  const ScoreGradients<T> gradients{probability,
                                    static_cast<Word<T>*>(block.p) + operand,
                                    static_cast<Word<T>*>(block.ds) + operand,
                                    static_cast<Word<T>*>(block.ds_across) + key / kDepth * kBackwardQueries + panel,
                                    block.lse + panel,
                                    block.delta + panel,
                                    block.scale * A(kLog2E),
                                    from,
                                    to,
                                    panel};
  // `from` and `to` are non-decreasing.
  const bool whole = from[rows - 1] <= panel && to[0] >= panel + kPanel;
  for (int64_t column = 0; column < kPanel; column += kTileWidth<A>)
    if (whole) {
      probability_tile<T, R, false>(k, q, depth, gradients, column);
      slope_tile<T, R, false>(v, dout, depth, gradients, column);
    } else {
      probability_tile<T, R, true>(k, q, depth, gradients, column);
      slope_tile<T, R, true>(v, dout, depth, gradients, column);
    }
}

template <class T>
void attention_backward(const BackwardBlock<accumulate_t<T>>& block) {
  const TilesInUse tiles;
  constexpr int64_t kDepth = Operand<T>::kDepth;
  const int64_t padded = padded_width(block.head_dim), wide = round_to_panel(block.queries);
  // Queries [from[j], to[j]) see key j. This is one interval because both ends of the queries' intervals are
  // non-decreasing; from and to are therefore non-decreasing too.
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
    for (int64_t j = 0, rows; j < block.keys; j += rows) {
      rows = strip_rows(block.keys - j);
      if (from[j] < panel + kPanel && to[j + rows - 1] > panel && from[j] < to[j + rows - 1]) {
        score_gradients<T>(block, j, rows, panel, from + j, to + j);
      } else {  // no query sees these keys, but a product may read over them
        for (int64_t r = j; r < j + rows; r += kDepth)
          for (int64_t i = 0; i < kPanel; ++i) ds_across[r / kDepth * kBackwardQueries + panel + i] = 0;
      }
    }
  for (int64_t word = (block.keys + kDepth - 1) / kDepth; word < words<T>(block.keys); ++word)
    for (int64_t i = 0; i < wide; ++i) ds_across[word * kBackwardQueries + i] = 0;
  const Word<T>* q_lanes = static_cast<const Word<T>*>(block.q_lanes);
  const Word<T>* dout_lanes = static_cast<const Word<T>*>(block.dout_lanes);
  const Word<T>* k_lanes = static_cast<const Word<T>*>(block.k_lanes);
  for (int64_t j = 0, rows; j < block.keys; j += rows) {
    rows = strip_rows(block.keys - j);
    if (from[j] >= to[j + rows - 1]) continue;  // p and ds were not written
    const int64_t first = words_before<T>(from[j]), depth = words<T>(to[j + rows - 1]) - first;
    const int64_t at = j * kBackwardWords<T> + first;
    strip<T>(rows, padded, {p + at, kBackwardWords<T>, 1}, dout_lanes + first * padded, padded, block.dv + j * padded,
             padded, depth, true);
    strip<T>(rows, padded, {ds + at, kBackwardWords<T>, 1}, q_lanes + first * padded, padded, block.dk + j * padded,
             padded, depth, true);
  }
  for (int64_t i = 0, rows; i < block.queries; i += rows) {
    rows = strip_rows(block.queries - i);
    const int64_t begin = most(block.visible[i].begin - block.first_key, 0);
    const int64_t end = least(block.visible[i + rows - 1].end - block.first_key, block.keys);
    if (begin >= end) continue;
    const int64_t first = words_before<T>(begin), depth = words<T>(end) - first;
    strip<T>(rows, padded, {ds_across + first * kBackwardQueries + i, 1, kBackwardQueries}, k_lanes + first * padded,
             padded, block.dq + i * padded, padded, depth, true);
  }
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
