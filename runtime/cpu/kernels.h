// The inner loops that are compiled once for each instruction set (kernels_avx512.cpp …, all from kernels_body.h), and
// the table through which the rest of this folder calls them. Plain pointers and counts: blocks are cut, and threads
// are started, by the callers.
//
// Vectors of A are float or double. Matrices "padded" have rows of head_dim rounded up to kPanel, zeros behind;
// "panels" are [rows / kPanel][head_dim][kPanel]: transposed, so that rows stand side by side in the lanes.
#pragma once

#include <cstdint>

#include "runtime/cpu/instruction_set.h"
#include "runtime/dtype.h"

namespace carillon::cpu {

inline constexpr int64_t kPanel = 64;  // columns of one register tile, for every type and instruction set

inline int64_t round_to_panel(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

// Keys [begin, end) of the whole block that a query row sees.
struct Visible {
  int64_t begin;
  int64_t end;
};

template <class A>
struct ForwardBlock {
  int64_t rows;  // queries of the block
  int64_t head_dim;
  const A* q;              // [rows][round_to_panel(head_dim)], times scale
  const A* k_panels;       // panels of all keys
  const A* v;              // padded rows of all keys
  const Visible* visible;  // [rows], non-decreasing
  A* out;                  // [rows][round_to_panel(head_dim)]  accumulator, in and out
  A* maximum;              // [rows] in and out
  A* sum;                  // [rows] in and out
  A* scores;               // [rows][kForwardKeys] scratch
};

template <class A>
struct BackwardBlock {
  int64_t keys, queries;  // both at most the constants below
  int64_t head_dim;
  const A* k;              // [keys][padded], untouched
  const A* v;              // [keys][padded]
  const A* q_panels;       // panels of these queries, times scale
  const A* dout_panels;    // panels
  const A* q;              // [queries][padded], times scale
  const A* dout;           // [queries][padded]
  const A* lse;            // [queries rounded to panel], +inf where a row saw nothing or is padding
  const A* delta;          // [queries rounded to panel]
  const Visible* visible;  // [queries], relative to this block's first key
  A* dk;                   // [keys][padded] += (of unscaled k: q carries the scale)
  A* dv;                   // [keys][padded] +=
  A* dq;                   // [queries][padded] += without the scale: the caller multiplies
  A* p;                    // [keys][kBackwardQueries] scratch
  A* ds;                   // [keys][kBackwardQueries] scratch
};

inline constexpr int64_t kForwardRows = 96;
inline constexpr int64_t kForwardKeys = 256;
inline constexpr int64_t kBackwardKeys = 96;
inline constexpr int64_t kBackwardQueries = 192;
static_assert(kForwardKeys % kPanel == 0 && kBackwardQueries % kPanel == 0);

template <class T>
struct Kernels {
  using A = accumulate_t<T>;
  // to[r][0 … padded) = from[r·stride + …]·factor, zeros behind head_dim.
  void (*pack_rows)(A* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim, A factor);
  // One panel [head_dim][kPanel] of up to kPanel rows; lanes behind are zero.
  void (*pack_panel)(A* to, const T* from, int64_t stride, int64_t rows, int64_t head_dim, A factor);
  void (*attention_forward)(const ForwardBlock<A>& block);
  void (*attention_backward)(const BackwardBlock<A>& block);

  void (*swiglu_forward)(T* y, const T* gate, const T* up, int64_t count);
  void (*swiglu_backward)(T* dgate, T* dup, const T* dy, const T* gate, const T* up, int64_t count);
  // Of a row of logits in A: its maximum (a NaN stays); Σ exp(x - maximum); and x = weight · exp(x - maximum) / sum.
  A (*row_maximum)(const A* x, int64_t count);
  A (*row_sum_exp)(const A* x, int64_t count, A maximum);
  void (*row_softmax)(A* x, int64_t count, A maximum, A factor);
  A (*row_dot)(const T* x, const T* y, int64_t count);
};

// The table of an instruction set.
template <class T>
const Kernels<T>& kernels(InstructionSet set);

}  // namespace carillon::cpu
