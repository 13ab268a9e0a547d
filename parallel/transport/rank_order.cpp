#include "parallel/transport/rank_order.h"

#include <algorithm>
#include <type_traits>

namespace carillon {
namespace {

// The running value has type A, so that bfloat16 is rounded once.
template <class T, class A>
void reduce(T* y, int64_t count, const std::vector<const void*>& parts, Reduction reduction) {
  for (int64_t i = 0; i < count; ++i) {
    A value = static_cast<A>(static_cast<const T*>(parts[0])[i]);
    for (size_t r = 1; r < parts.size(); ++r) {
      const A next = static_cast<A>(static_cast<const T*>(parts[r])[i]);
      if (reduction == Reduction::kSum) {
        if constexpr (std::is_integral_v<A>)
          value = static_cast<A>(static_cast<uint64_t>(value) + static_cast<uint64_t>(next));  // hashes wrap around
        else
          value += next;
      } else if (value == value && (next != next || (reduction == Reduction::kMax ? next > value : next < value))) {
        value = next;  // a NaN wins and stays
      }
    }
    y[i] = T(value);
  }
}

}  // namespace

void reduce_in_rank_order(Tensor y, const std::vector<const void*>& parts, Reduction reduction) {
  if (y.empty()) return;
  CHECK(y.packed(), "reductions are of packed tensors", describe(y));
  if (y.dtype() == DType::kInt64) return reduce<int64_t, int64_t>(y.data<int64_t>(), y.count(), parts, reduction);
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    reduce<T, accumulate_t<T>>(y.data<T>(), y.count(), parts, reduction);
  });
}

}  // namespace carillon
