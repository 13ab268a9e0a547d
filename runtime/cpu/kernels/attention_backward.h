// The inner loops of attention's backward pass, for one block of keys against one block of queries; kernels.h says what
// lies where. Scores and their gradients become operands while they are in registers.
#pragma once

#include "runtime/cpu/kernels/tile.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

// Words of a row of the backward pass's scratch.
template <class T>
constexpr int64_t kBackwardWords = kBackwardQueries / Operand<T>::kDepth;

// One strip of keys against one panel of queries: where its probabilities and gradients by the scores go.
template <class T>
struct ScoreGradients {
  using A = accumulate_t<T>;
  A* probability;        // [kStrip][kPanel], for the gradients
  Word<T>*p, *ds;        // operands whose inner dim runs along the queries, kBackwardWords a row
  Word<T>* ds_across;    // and along the keys, kBackwardQueries a word of keys; only with depth 2
  const A *lse, *delta;  // of the panel's queries
  A factor;              // of scores, in powers of two
};

// The product by the keys wants words of keys: pairs of rows, a last one with nothing below it.
template <class T, int R>
__attribute__((always_inline)) inline void put_rows(const ScoreGradients<T>& to, int64_t column,
                                                    const Vector<accumulate_t<T>> (&slope)[R][kTileVectors]) {
  using O = Operand<T>;
  constexpr int kLanes = Lanes<accumulate_t<T>>::kCount;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; v += 2)
      O::put(to.ds + r * kBackwardWords<T> + (column + v * kLanes) / O::kDepth, slope[r][v], slope[r][v + 1]);
  if constexpr (O::kDepth == 2)
#pragma GCC unroll 16
    for (int r = 0; r < R; r += 2)
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v)
        O::put_across(to.ds_across + r / 2 * kBackwardQueries + column + v * kLanes, slope[r][v],
                      r + 1 < R ? slope[r + 1 < R ? r + 1 : r][v] : Vector<accumulate_t<T>>{});
}

template <class T, int R>
__attribute__((noinline)) void probability_tile(const Word<T>* keys, const Word<T>* queries, int64_t depth,
                                                const ScoreGradients<T>& to, int64_t column) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  tile<T, R>(
      {keys, depth, 1}, queries + column, kPanel, depth, [&](TileSums<T, R> sum) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; v += 2) {
            const int64_t i = column + v * kLanes;
            const Vector<A> first = power_of_two(sum[r][v] * to.factor - load(to.lse + i), T{});
            const Vector<A> second = power_of_two(sum[r][v + 1] * to.factor - load(to.lse + i + kLanes), T{});
            store(to.probability + r * kPanel + i, first);
            store(to.probability + r * kPanel + i + kLanes, second);
            Operand<T>::put(to.p + r * kBackwardWords<T> + i / Operand<T>::kDepth, first, second);
          }
      });
}

template <class T, int R>
__attribute__((noinline)) void slope_tile(const Word<T>* values, const Word<T>* gradients, int64_t depth,
                                          const ScoreGradients<T>& to, int64_t column) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  tile<T, R>(
      {values, depth, 1}, gradients + column, kPanel, depth, [&](TileSums<T, R> sum) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
          for (int v = 0; v < kTileVectors; ++v) {
            const int64_t i = column + v * kLanes;
            sum[r][v] = load(to.probability + r * kPanel + i) * (sum[r][v] - load(to.delta + i));
          }
        put_rows<T, R>(to, column, sum);
      });
}

// What a mask cuts goes by way of memory: what key j's queries [from[j], to[j]) of the panel do not see becomes 0,
// whatever it was.
template <class T, int R>
__attribute__((noinline)) void cut_tile(const Word<T>* values, const Word<T>* gradients, int64_t depth,
                                        const ScoreGradients<T>& to, int64_t column, int64_t panel,
                                        const int64_t* from_query, const int64_t* to_query) {
  using A = accumulate_t<T>;
  constexpr int kLanes = Lanes<A>::kCount;
  A slopes[R][kTileWidth<A>];
  tile_product<T, R>(values, depth, 1, gradients + column, kPanel, slopes[0], kTileWidth<A>, depth, false);
  Vector<A> slope[R][kTileVectors];
  for (int r = 0; r < R; ++r) {
    A* probability = to.probability + r * kPanel + column;
    for (int64_t i = 0; i < kTileWidth<A>; ++i) {
      const int64_t query = panel + column + i;
      const bool seen = from_query[r] <= query && query < to_query[r];
      slopes[r][i] = seen ? probability[i] * (slopes[r][i] - to.delta[column + i]) : A(0);
      if (!seen) probability[i] = 0;
    }
    for (int v = 0; v < kTileVectors; ++v) slope[r][v] = load(slopes[r] + v * kLanes);
    for (int v = 0; v < kTileVectors; v += 2)
      Operand<T>::put(to.p + r * kBackwardWords<T> + (column + v * kLanes) / Operand<T>::kDepth,
                      load(probability + v * kLanes), load(probability + (v + 1) * kLanes));
  }
  put_rows<T, R>(to, column, slope);
}

// Strip of `rows` <= R keys from `key` on against the panel of queries from `panel` on.
template <class T, int R = kStrip>
void score_gradients(const BackwardBlock<accumulate_t<T>>& block, int64_t key, int64_t rows, int64_t panel,
                     const int64_t* from, const int64_t* to) {
  if constexpr (R > 1)
    if (rows < R) return score_gradients<T, R - 1>(block, key, rows, panel, from, to);
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
                                    block.scale * A(kLog2E)};
  // Both ends of the keys' runs are non-decreasing.
  const bool whole = from[rows - 1] <= panel && to[0] >= panel + kPanel;
  for (int64_t column = 0; column < kPanel; column += kTileWidth<A>) {
    probability_tile<T, R>(k, q, depth, gradients, column);
    if (whole)
      slope_tile<T, R>(v, dout, depth, gradients, column);
    else
      cut_tile<T, R>(v, dout, depth, gradients, column, panel, from, to);
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
