// The inner loops, compiled once for each instruction set (kernels/avx512.cpp …), and the table through which the rest
// of this folder calls them. They take plain pointers and counts; callers cut the blocks and start the threads.
//
// Operands of products are packed into words as wide as A (accumulate_t<T>). A word holds one element or, if the
// processor multiplies pairs of bfloat16, two neighbours along the inner dim (Kernels::depth = 2). words(n) = n /
// depth, rounded up to whole granules (16 words on AMX, padded with zeros; else 1). A matrix [rows][head_dim] has three
// packings:
//   rows    [rows][words(head_dim)]                    inner dim head_dim, read row by row
//   panels  [rows / kPanel][words(head_dim)][kPanel]   the same transposed: rows side by side in the lanes
//   lanes   [words(rows)][padded_width(head_dim)]      inner dim rows; zeros after head_dim
#pragma once

#include <cstdint>

#include "runtime/cpu/instruction_set.h"
#include "runtime/dtype.h"

namespace carillon::cpu {

inline constexpr int64_t kPanel = 64;  // columns of one register tile, for every type and instruction set

inline int64_t round_to_panel(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

// Rows along head_dim are padded to a multiple of this, one vector of the widest instruction set, so that head sizes
// such as 80 and 96 are not padded further.
inline constexpr int64_t kColumns = 16;
inline int64_t padded_width(int64_t head_dim) { return (head_dim + kColumns - 1) / kColumns * kColumns; }

// Keys [begin, end) of the whole block that a query row sees.
struct Visible {
  int64_t begin;
  int64_t end;
};

template <class A>
struct ForwardBlock {
  int64_t rows;  // queries of the block
  int64_t head_dim;
  A scale;                 // of scores, > 0
  const void* q;           // rows of this block
  const void* k_panels;    // panels of all keys
  const void* v_lanes;     // lanes of all keys
  const Visible* visible;  // [rows], both ends non-decreasing
  A* out;                  // [rows][padded] accumulator, in and out
  A* maximum;              // [rows] of scores times scale, in and out
  A* sum;                  // [rows] in and out
  A* scores;               // [rows][kForwardKeys] scratch
};

template <class A>
struct BackwardBlock {
  int64_t keys, queries;  // both at most the constants below
  int64_t head_dim;
  A scale;
  int64_t first_key;                   // index of this block's first key, as `visible` counts
  const void *k_rows, *v_rows;         // rows of these keys
  const void* k_lanes;                 // lanes of these keys; the first key is even
  const void *q_panels, *dout_panels;  // panels of these queries
  const void *q_lanes, *dout_lanes;    // lanes of these queries; the first query is even
  const A* lse;                        // [queries rounded to panel], in powers of two: lse · log2(e)
  const A* delta;                      // [queries rounded to panel]
  const Visible* visible;              // [queries], both ends non-decreasing
  A *dk, *dv;                          // [keys][padded] +=, without the scale: the caller multiplies
  A* dq;                               // [queries][padded] +=, likewise
  void *p, *ds, *ds_across;            // [keys][kBackwardQueries] words of scratch each
};

inline constexpr int64_t kForwardRows = 96;
inline constexpr int64_t kForwardKeys = 256;
inline constexpr int64_t kForwardGroup = 4;  // strips of rows
inline constexpr int64_t kBackwardKeys = 96;
inline constexpr int64_t kBackwardQueries = 192;
// Up to this number of key blocks, one thread computes a whole key/value head, for as many heads as divide evenly among
// the threads. That needs no barriers, but packed operands for each thread.
inline constexpr int64_t kBlocksOfOneThread = 128;
// Number of queries, in whole blocks, that a backward pass processes at once. Their operands (two of queries, two of
// gradients, `depth` elements per word of `word_bytes`) and the two sums of their gradients fill 8 MiB, the cache that
// cooperating threads share.
inline int64_t backward_queries_at_once(int64_t padded_head_dim, int64_t depth, int64_t word_bytes) {
  const int64_t query_bytes = padded_head_dim * word_bytes * (4 / depth + 2);
  return std::max<int64_t>((int64_t{8} << 20) / query_bytes / kBackwardQueries, 1) * kBackwardQueries;
}
static_assert(kForwardKeys % kPanel == 0 && kBackwardQueries % kPanel == 0 && kBackwardKeys % 2 == 0);

// The factors of one AdamW update (backend.h, AdamWStep).
template <class A>
struct AdamWNumbers {
  A beta1, beta2, epsilon;
  A gradient_scale;
  A decay;        // 1 - learning rate · weight decay
  A step_size;    // learning rate / (1 - beta1^step)
  A correction2;  // sqrt(1 - beta2^step)
};

// y[rows][columns] += left · right, with a short inner dim.
template <class T>
struct UpdateBlock {
  T* y;
  int64_t y_stride;
  const void* left;  // rows (above), [rows][words(inner)]
  const void* right;  // word k of column c is at (c / kPanel)·right_panel + k·right_word + c % kPanel; whole panels may
                      // be read
  int64_t right_panel, right_word;  // words
  int64_t rows, columns, inner;
};

// sums[row][column] = left[row] · right[column] for a few rows, with `right` as it is stored (few_rows.h).
template <class T>
struct FewRowsProduct {
  using A = accumulate_t<T>;
  const A* left;  // [rows][inner], widened
  const T* right;
  int64_t right_stride;
  A* sums;
  int64_t sums_stride;
  int64_t rows, columns, inner;
};

// One query row of the heads that share keys, over some consecutive keys, at least one, all of which the row sees.
template <class T>
struct FewRowsAttention {
  using A = accumulate_t<T>;
  const A* q;  // [heads][head_dim], widened
  const T *k, *v;
  int64_t k_stride, v_stride;
  int64_t heads, keys, head_dim;
  A scale;
  A* scores;  // [heads][keys] scratch
  // For each head: the largest of its scores times scale, Σ exp(score · scale - largest), and [head_dim] Σ exp(…) · v.
  A* result;
  int64_t result_stride;
};

// The parameters of the norm of one row (backend.h, NormOptions).
template <class A>
struct NormNumbers {
  A epsilon;
  A offset;         // of the weight
  const A* sum;     // the given sum over the whole row; null: the kernel sums these elements
  int64_t columns;  // of the whole row
};

template <class T>
struct Kernels {
  using A = accumulate_t<T>;
  int64_t depth;    // elements in a word
  int64_t granule;  // inner dims are multiples of this number of words
  int64_t words(int64_t elements) const { return (elements + depth * granule - 1) / (depth * granule) * granule; }

  void (*pack_rows)(void* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim);
  // One panel of up to kPanel rows; the remaining lanes are zero.
  void (*pack_panel)(void* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim);
  void (*pack_lanes)(void* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim);
  void (*attention_forward)(const ForwardBlock<A>& block);
  void (*attention_backward)(const BackwardBlock<A>& block);
  void (*update_rows)(const UpdateBlock<T>& block);
  void (*few_rows_product)(const FewRowsProduct<T>& product);
  void (*few_rows_attention)(const FewRowsAttention<T>& piece);

  // One row each. rmsnorm_forward returns 1/rms; backward adds to dweight and, if `add`, to dx, and gives y again where
  // that is not null.
  A (*rmsnorm_forward)(T* y, const T* x, const T* weight, int64_t count, const NormNumbers<A>& norm);
  void (*rmsnorm_backward)(T* dx, A* dweight, T* y, const T* dy, const T* x, const T* weight, A rstd, int64_t count,
                           const NormNumbers<A>& norm, bool add);
  // Every head of a row; sign -1 turns back.
  void (*rotate)(T* x, int64_t head_stride, int64_t heads, const A* cosine, const A* sine, A sign, int64_t pairs);
  // By GateActivation: [0] silu, [1] gelu by its tanh formula.
  void (*swiglu_forward[2])(T* y, const T* gate, const T* up, int64_t count);
  void (*swiglu_backward[2])(T* dgate, T* dup, T* y, const T* dy, const T* gate, const T* up, int64_t count);
  void (*add_rows)(T* y, const T* a, const T* b, int64_t count);  // y may be a or b
  void (*widen)(A* to, const T* from, int64_t count);
  // to[i] = from[i] · factor, rounded to T.
  void (*round_scaled)(T* to, const A* from, A factor, int64_t count);
  // to += (a + b) · factor; b may be null.
  void (*add_scaled)(A* to, const A* a, const A* b, A factor, int64_t count);
  A (*row_dot)(const T* x, const T* y, int64_t count);
  A (*row_dot_weighted)(const T* x, const T* y, const T* weight, A offset, int64_t count);

  // For a row of logits in A: its maximum (NaN if it contains one); Σ exp(x - maximum); and to = factor ·
  // exp(x - maximum), where `to` may start at the same address as x.
  A (*row_maximum)(const A* x, int64_t count);
  A (*row_sum_exp)(const A* x, int64_t count, A maximum);
  void (*row_softmax)(T* to, const A* x, int64_t count, A maximum, A factor);

  double (*sum_of_squares)(const T* x, int64_t count);
  // Also stores rounded = master in T, unless `rounded` is null. The arrays must not overlap.
  void (*adamw)(T* rounded, A* master, A* exp_avg, A* exp_avg_sq, const A* gradient, int64_t count,
                const AdamWNumbers<A>& step);
};

// The kernels of an instruction set.
template <class T>
const Kernels<T>& kernels(InstructionSet set);

}  // namespace carillon::cpu
