// Heads that lie side by side in fused rows, as those of queries, keys and values do: one tensor, so that what happens
// to all of them is one op.
#pragma once

#include <initializer_list>
#include <vector>

#include "runtime/tensor.h"

namespace carillon {

// Parts [B, T, heads, HD] as [B·T, heads of all, HD]; absent where they do not lie behind one another in the same rows,
// all rows at one distance.
inline Tensor joined_heads(std::initializer_list<Tensor> parts) {
  const Tensor& first = *parts.begin();
  const int64_t width = first.size(3), rows = first.size(0) * first.size(1), distance = first.stride(1);
  int64_t heads = 0;
  for (const Tensor& part : parts) {
    const void* const expected =
        static_cast<char*>(first.raw()) + heads * width * static_cast<int64_t>(size_of(first.dtype()));
    if (part.raw() != expected || part.dtype() != first.dtype() || part.size(0) != first.size(0) ||
        part.size(1) != first.size(1) || part.size(3) != width)
      return {};
    if (part.stride(3) != 1 || part.stride(2) != width || part.stride(1) != distance ||
        (part.size(0) > 1 && part.stride(0) != distance * part.size(1)))
      return {};
    heads += part.size(2);
  }
  if (heads == 0 || distance < heads * width) return {};
  return Tensor(first.raw(), first.dtype(), {rows, distance}).slice(1, 0, heads * width).split_dim(1, heads);
}

// What to clear of the gradients by queries, and by keys and values: as few tensors as their places in memory allow.
inline std::vector<Tensor> cleared_gradients(Tensor dq, Tensor dk, Tensor dv, bool queries, bool keys) {
  if (queries && keys)
    if (const Tensor all = joined_heads({dq, dk, dv})) return {all};
  std::vector<Tensor> cleared;
  if (queries) cleared.push_back(dq);
  if (!keys) return cleared;
  const bool adjoining =
      dk.packed() && dv.packed() && dk.dtype() == dv.dtype() && static_cast<char*>(dk.raw()) + dk.bytes() == dv.raw();
  if (adjoining) {
    cleared.push_back(Tensor(dk.raw(), dk.dtype(), {dk.count() + dv.count()}));
  } else {
    cleared.push_back(dk);
    cleared.push_back(dv);
  }
  return cleared;
}

}  // namespace carillon
