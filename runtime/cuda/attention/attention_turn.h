// Gradients by rotated queries and keys turned back where they lie, with the roundings of rotate.cu: what a kernel of
// the backward pass does to a row once it has written it.
#pragma once

#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {

// A turn of a rounded product each, whatever the compiler would contract.
template <int kCount, class T>
__device__ __forceinline__ void turn_row_back(T* row, const Accumulate<T>* cosine, const Accumulate<T>* sine, int pairs,
                                              int lane, int lanes) {
  using A = Accumulate<T>;
  constexpr int kAtOnce = 4;  // packs on their way together: a row is read back from a cache
  for (int begin = lane * kCount; begin < pairs; begin += kAtOnce * lanes * kCount) {
    Pack<T, kCount> u[kAtOnce], v[kAtOnce];
    Pack<A, kCount> c[kAtOnce], s[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int at = begin + k * lanes * kCount;
      if (at >= pairs) continue;
      u[k] = Pack<T, kCount>::load(row + at), v[k] = Pack<T, kCount>::load(row + pairs + at);
      c[k] = Pack<A, kCount>::load(cosine + at), s[k] = Pack<A, kCount>::load(sine + at);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int at = begin + k * lanes * kCount;
      if (at >= pairs) continue;
      for (int i = 0; i < kCount; ++i) {
        const A a = convert<A>(u[k].value[i]), b = convert<A>(v[k].value[i]);
        u[k].value[i] = convert<T>(product(a, c[k].value[i]) + product(b, s[k].value[i]));
        v[k].value[i] = convert<T>(product(b, c[k].value[i]) - product(a, s[k].value[i]));
      }
      u[k].store(row + at);
      v[k].store(row + pairs + at);
    }
  }
}

// A row [head_size] of token `token` (b·T + t) that `lanes` lanes of a warp share and have written: they have met since
// (__syncwarp). A position beyond the table was reported when the forward pass turned the row.
template <class T>
__device__ __forceinline__ void turn_back(const AttentionTurn& turn, T* row, int64_t token, int lane, int lanes) {
  using A = Accumulate<T>;
  const int64_t position = turn.position[token];
  if (position < 0 || position >= turn.table_rows) return;
  const A* const cosine = static_cast<const A*>(turn.cosine) + position * turn.pairs;
  const A* const sine = static_cast<const A*>(turn.sine) + position * turn.pairs;
  const auto even = [](const void* data, size_t bytes) { return reinterpret_cast<uintptr_t>(data) % (2 * bytes) == 0; };
  if (turn.pairs % 2 == 0 && even(row, sizeof(T)) && even(cosine, sizeof(A)) && even(sine, sizeof(A)))
    turn_row_back<2>(row, cosine, sine, turn.pairs, lane, lanes);
  else
    turn_row_back<1>(row, cosine, sine, turn.pairs, lane, lanes);
}

}  // namespace carillon::cuda
