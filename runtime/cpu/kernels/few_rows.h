// Products and attention of a few rows: the ops of generating a token. Reading the weights and the keys and values once
// is nearly all of their time, so these operands are used as they are stored. The order of a sum depends only on its
// own length: not on the number of rows, nor on who computes which part.
#pragma once

#include "runtime/cpu/kernels/rows.h"

namespace carillon::cpu::CARILLON_KERNELS {
namespace {

inline Vector<float> load_wide(const float* from) { return load(from); }
inline Vector<double> load_wide(const double* from) { return load(from); }
inline Vector<float> load_wide(const bfloat16* from) {
  typedef uint16_t Halves __attribute__((vector_size(CARILLON_VECTOR_BYTES / 2), aligned(2), may_alias));
  typedef uint32_t Words __attribute__((vector_size(CARILLON_VECTOR_BYTES)));
  return (Vector<float>)(__builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words) << 16);
}

// The processor's own prefetching stops at the end of a page; one core read 6.9 GB/s without this and 10.1 with it
// (Sapphire Rapids).
constexpr int64_t kPrefetchBytes = 4096;

// Σ x[i]·y[i]: four sums of whole vectors, then the rest one by one.
template <class T, class A>
inline A wide_dot(const A* x, const T* y, int64_t count, bool prefetch) {
  constexpr int64_t kLanes = Lanes<A>::kCount, kAtOnce = 4;
  Vector<A> sums[kAtOnce]{};
  int64_t i = 0;
  for (; i + kAtOnce * kLanes <= count; i += kAtOnce * kLanes) {
    if (prefetch)
      for (int64_t line = 0; line < kAtOnce * kLanes * static_cast<int64_t>(sizeof(T)); line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(y + i) + kPrefetchBytes + line);
#pragma GCC unroll 4
    for (int64_t j = 0; j < kAtOnce; ++j) sums[j] += load(x + i + j * kLanes) * load_wide(y + i + j * kLanes);
  }
  for (; i + kLanes <= count; i += kLanes) sums[0] += load(x + i) * load_wide(y + i);
  A sum = horizontal_sum<A>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < count; ++i) sum += x[i] * load_as(y + i);
  return sum;
}

// Each row of `right` is read once and meets all rows of `left` while it is in the cache.
template <class T>
void few_rows_product(const FewRowsProduct<T>& product) {
  for (int64_t column = 0; column < product.columns; ++column) {
    const T* right = product.right + column * product.right_stride;
    for (int64_t row = 0; row < product.rows; ++row)
      product.sums[row * product.sums_stride + column] =
          wide_dot<T>(product.left + row * product.inner, right, product.inner, /*prefetch=*/row == 0);
  }
}

// Heads that meet a key, or a value, while it is in registers.
constexpr int kHeadsAtOnce = 4;

// scores[head][key] = scale · q[head] · k[key]; returns the largest of each head.
template <class T, int kHeads, class A>
void few_rows_scores(const FewRowsAttention<T>& piece, const A* q, A* scores, A* largest) {
  constexpr int64_t kLanes = Lanes<A>::kCount;
  // Some whole rows ahead: other heads lie between them.
  const int64_t row_bytes = piece.k_stride * static_cast<int64_t>(sizeof(T));
  const int64_t ahead = (kPrefetchBytes / row_bytes + 1) * row_bytes;
  for (int head = 0; head < kHeads; ++head) largest[head] = -__builtin_inf();
  for (int64_t key = 0; key < piece.keys; ++key) {
    const T* k = piece.k + key * piece.k_stride;
    Vector<A> sums[kHeads]{};
    int64_t i = 0;
    for (; i + kLanes <= piece.head_dim; i += kLanes) {
      __builtin_prefetch(reinterpret_cast<const char*>(k + i) + ahead);
      const Vector<A> wide = load_wide(k + i);
#pragma GCC unroll 4
      for (int head = 0; head < kHeads; ++head) sums[head] += load(q + head * piece.head_dim + i) * wide;
    }
#pragma GCC unroll 4
    for (int head = 0; head < kHeads; ++head) {
      A sum = horizontal_sum<A>(sums[head]);
      for (int64_t j = i; j < piece.head_dim; ++j) sum += q[head * piece.head_dim + j] * load_as(k + j);
      const A score = sum * piece.scale;
      scores[head * piece.keys + key] = score;
      largest[head] = score > largest[head] ? score : largest[head];
    }
  }
}

// scores = exp(scores - largest); returns their sum. A NaN among them is not the largest, and reaches the sum here.
template <class A>
A few_rows_weights(A* scores, int64_t count, A largest) {
  constexpr int64_t kLanes = Lanes<A>::kCount;
  Vector<A> sums{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vector<A> weights = exponential(load(scores + i) - largest);
    store(scores + i, weights);
    sums += weights;
  }
  A sum = horizontal_sum<A>(sums);
  for (; i < count; ++i) {
    scores[i] = exponential(splat(scores[i] - largest))[0];
    sum += scores[i];
  }
  return sum;
}

// out[head] = Σ weights[head][key] · v[key]
template <class T, int kHeads, class A>
void few_rows_values(const FewRowsAttention<T>& piece, const A* weights, A* out, int64_t out_stride) {
  constexpr int64_t kLanes = Lanes<A>::kCount, kVectors = 2;
  const int64_t row_bytes = piece.v_stride * static_cast<int64_t>(sizeof(T));
  const int64_t ahead = (kPrefetchBytes / row_bytes + 1) * row_bytes;
  int64_t column = 0;
  for (; column + kVectors * kLanes <= piece.head_dim; column += kVectors * kLanes) {
    Vector<A> sums[kHeads][kVectors]{};
    for (int64_t key = 0; key < piece.keys; ++key) {
      const T* v = piece.v + key * piece.v_stride + column;
      __builtin_prefetch(reinterpret_cast<const char*>(v) + ahead);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        const Vector<A> wide = load_wide(v + j * kLanes);
#pragma GCC unroll 4
        for (int head = 0; head < kHeads; ++head) sums[head][j] += weights[head * piece.keys + key] * wide;
      }
    }
    for (int head = 0; head < kHeads; ++head)
      for (int j = 0; j < kVectors; ++j) store(out + head * out_stride + column + j * kLanes, sums[head][j]);
  }
  for (; column < piece.head_dim; ++column)
    for (int head = 0; head < kHeads; ++head) {
      A sum = 0;
      for (int64_t key = 0; key < piece.keys; ++key)
        sum += weights[head * piece.keys + key] * load_as(piece.v + key * piece.v_stride + column);
      out[head * out_stride + column] = sum;
    }
}

template <class T, int kHeads>
void few_rows_heads(const FewRowsAttention<T>& piece, int64_t first) {
  using A = accumulate_t<T>;
  A largest[kHeads];
  A* scores = piece.scores + first * piece.keys;
  A* result = piece.result + first * piece.result_stride;
  few_rows_scores<T, kHeads>(piece, piece.q + first * piece.head_dim, scores, largest);
  for (int head = 0; head < kHeads; ++head) {
    result[head * piece.result_stride] = largest[head];
    result[head * piece.result_stride + 1] = few_rows_weights(scores + head * piece.keys, piece.keys, largest[head]);
  }
  few_rows_values<T, kHeads>(piece, scores, result + 2, piece.result_stride);
}

template <class T>
void few_rows_attention(const FewRowsAttention<T>& piece) {
  int64_t first = 0;
  for (; first + kHeadsAtOnce <= piece.heads; first += kHeadsAtOnce) few_rows_heads<T, kHeadsAtOnce>(piece, first);
  if (piece.heads - first == 3) few_rows_heads<T, 3>(piece, first);
  if (piece.heads - first == 2) few_rows_heads<T, 2>(piece, first);
  if (piece.heads - first == 1) few_rows_heads<T, 1>(piece, first);
}

}  // namespace
}  // namespace carillon::cpu::CARILLON_KERNELS
