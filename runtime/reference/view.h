// Typed, strided access to a tensor's elements, for the loops of this folder: view(i, j, k).
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/check.h"
#include "runtime/tensor.h"

namespace carillon::reference {

template <class T, int kRank>
class View {
 public:
  explicit View(const Tensor& tensor) : data_(tensor.count() == 0 ? nullptr : tensor.data<T>()) {
    CHECK(tensor.rank() == kRank, "an op got a tensor of another rank", describe(tensor), kRank);
    for (int dim = 0; dim < kRank; ++dim) {
      size_[dim] = tensor.size(dim);
      stride_[dim] = tensor.stride(dim);
    }
  }
  int64_t size(int dim) const { return size_[dim]; }
  template <class... Index>
  T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == kRank);
    int64_t offset = 0;
    int dim = 0;
    ((offset += static_cast<int64_t>(index) * stride_[dim++]), ...);
    return data_[offset];
  }

 private:
  T* data_;
  std::array<int64_t, kRank> size_{};
  std::array<int64_t, kRank> stride_{};
};

// Calls visit(offset in a, offset in b) for every index of two tensors of one shape, last dim fastest.
template <class Visit>
void for_each_pair(const Tensor& a, const Tensor& b, Visit&& visit) {
  CHECK(a.shape() == b.shape(), "shapes differ", describe(a), describe(b));
  const int64_t count = a.count();
  std::array<int64_t, Tensor::kMaxRank> index{};
  int64_t at_a = 0, at_b = 0;
  for (int64_t done = 0; done < count; ++done) {
    visit(at_a, at_b);
    for (int dim = a.rank() - 1; dim >= 0; --dim) {
      at_a += a.stride(dim);
      at_b += b.stride(dim);
      if (++index[dim] < a.size(dim)) break;
      at_a -= a.stride(dim) * a.size(dim);
      at_b -= b.stride(dim) * b.size(dim);
      index[dim] = 0;
    }
  }
}

// Calls function(T{}, A{}) with the C++ compute and accumulate types of `dtype`.
template <class Function>
void dispatch(DType dtype, Function&& function) {
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    function(T{}, accumulate_t<T>{});
  });
}

}  // namespace carillon::reference
