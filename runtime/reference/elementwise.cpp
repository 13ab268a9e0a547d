#include <algorithm>
#include <cmath>
#include <span>

#include "runtime/processor.h"
#include "runtime/reference/reference_backend.h"
#include "runtime/reference/view.h"

namespace carillon {
namespace {

using reference::for_each_pair;

template <class Function>
void dispatch_any(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::kInt64:
      return function(int64_t{});
    case DType::kUInt8:
      return function(uint8_t{});
    default:
      return dispatch_floating(dtype, function);
  }
}

// Pairwise summation, so that the error grows with the logarithm of the count; blocks of up to 128 are summed in order.
template <class T>
double tree_sum_of_squares(std::span<const T> x) {
  if (x.size() <= 128) {
    double sum = 0;
    for (const T value : x) sum += static_cast<double>(value) * static_cast<double>(value);
    return sum;
  }
  const size_t middle = x.size() / 2;
  return tree_sum_of_squares(x.first(middle)) + tree_sum_of_squares(x.subspan(middle));
}

}  // namespace

DeviceDescription ReferenceBackend::describe() const {
  DeviceDescription description;
  description.name = "reference";
  description.processor = processor_name();
  description.instruction_set = "baseline";
  description.available = {"baseline"};
  return description;
}

void ReferenceBackend::fill(Tensor x, double value) {
  dispatch_any(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for_each_pair(x, x, [data = x.data<T>(), value](int64_t at, int64_t) { data[at] = T(value); });
  });
}

void ReferenceBackend::copy(Tensor y, Tensor x) {
  dispatch_any(y.dtype(), [&](auto zero_y) {
    dispatch_any(x.dtype(), [&](auto zero_x) {
      using Y = decltype(zero_y);
      using X = decltype(zero_x);
      for_each_pair(y, x, [to = y.data<Y>(), from = x.data<X>()](int64_t at_y, int64_t at_x) {
        if constexpr (std::is_same_v<X, Y>) {
          to[at_y] = from[at_x];
        } else if constexpr (std::is_same_v<X, bfloat16>) {
          to[at_y] = static_cast<Y>(static_cast<float>(from[at_x]));
        } else if constexpr (std::is_same_v<Y, bfloat16>) {
          to[at_y] = bfloat16(static_cast<double>(from[at_x]));
        } else {
          to[at_y] = static_cast<Y>(from[at_x]);
        }
      });
    });
  });
}

void ReferenceBackend::add(Tensor y, Tensor x) {
  dispatch_floating(y.dtype(), [&](auto zero_y) {
    dispatch_floating(x.dtype(), [&](auto zero_x) {
      using Y = decltype(zero_y);
      using X = decltype(zero_x);
      using Sum = std::conditional_t<std::is_same_v<X, double> || std::is_same_v<Y, double>, double, float>;
      for_each_pair(y, x, [to = y.data<Y>(), from = x.data<X>()](int64_t at_y, int64_t at_x) {
        to[at_y] = Y(static_cast<Sum>(to[at_y]) + static_cast<Sum>(from[at_x]));
      });
    });
  });
}

void ReferenceBackend::sum(Tensor y, Tensor a, Tensor b) {
  reference::dispatch(y.dtype(), [&]<class T, class A>(T, A) {
    CHECK(y.shape() == b.shape(), "shapes differ", carillon::describe(y), carillon::describe(b));
    std::vector<A> first(static_cast<size_t>(y.count()));
    size_t n = 0;
    for_each_pair(a, a, [&](int64_t at, int64_t) { first[n++] = static_cast<A>(a.data<T>()[at]); });
    n = 0;
    for_each_pair(y, b, [&](int64_t at_y, int64_t at_b) {
      y.data<T>()[at_y] = T(first[n++] + static_cast<A>(b.data<T>()[at_b]));
    });
  });
}

void ReferenceBackend::scale(Tensor x, double factor) {
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    for_each_pair(x, x, [data = x.data<T>(), by = static_cast<A>(factor)](int64_t at, int64_t) {
      data[at] = T(static_cast<A>(data[at]) * by);
    });
  });
}

void ReferenceBackend::scale_rows(Tensor x, Tensor factor) {
  CHECK(x.rank() >= 2 && factor.count() == x.size(0), "one factor a row", carillon::describe(x),
        carillon::describe(factor));
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    const std::span<A> by = factor.span<A>();
    for (int64_t n = 0; n < x.size(0); ++n) {
      const Tensor row = x.slice(0, n, n + 1);
      for_each_pair(row, row, [&, data = row.data<T>()](int64_t at, int64_t) {
        data[at] = T(static_cast<A>(data[at]) * by[static_cast<size_t>(n)]);
      });
    }
  });
}

void ReferenceBackend::dropout(Tensor y, Tensor x, Tensor row, const Dropout& dropout, bool accumulate) {
  CHECK(y.shape() == x.shape() && row.count() == x.size(0), "dropout shapes", carillon::describe(x),
        carillon::describe(row));
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    const reference::View<T, 2> vy(y), vx(x);
    const A scale = static_cast<A>(dropout.scale());
    for (int64_t n = 0; n < x.size(0); ++n)
      for (int64_t c = 0; c < x.size(1); ++c) {
        const int64_t column = dropout.first_column + c;
        const uint32_t word =
            dropout_words(dropout, row.data<int64_t>()[n], column / 4)[static_cast<size_t>(column % 4)];
        const A before = accumulate ? static_cast<A>(vy(n, c)) : A(0);
        vy(n, c) = T(before + (word < dropout.threshold() ? A(0) : static_cast<A>(vx(n, c)) * scale));
      }
  });
}

void ReferenceBackend::row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) {
  reference::dispatch(a.dtype(), [&]<class T, class A>(T, A) {
    const reference::View<T, 2> va(a), vb(b);
    const std::span<A> to = sums.span<A>();
    const T* w = weight ? weight.span<T>().data() : nullptr;
    CHECK(a.shape() == b.shape() && sums.count() == a.size(0), "one sum per row", carillon::describe(a),
          carillon::describe(sums));
    for (int64_t n = 0; n < a.size(0); ++n) {
      A sum = 0;
      for (int64_t c = 0; c < a.size(1); ++c) {
        const A by = w != nullptr ? static_cast<A>(weight_offset) + static_cast<A>(w[c]) : A(1);
        sum += static_cast<A>(va(n, c)) * static_cast<A>(vb(n, c)) * by;
      }
      to[static_cast<size_t>(n)] = sum;
    }
  });
}

void ReferenceBackend::soft_cap(Tensor x, double cap) {
  reference::dispatch(x.dtype(), [&]<class T, class A>(T, A) {
    for_each_pair(x, x, [data = x.data<T>(), most = static_cast<A>(cap)](int64_t at, int64_t) {
      data[at] = T(most * std::tanh(static_cast<A>(data[at]) / most));
    });
  });
}

double ReferenceBackend::sum_of_squares(std::span<const Tensor> tensors) {
  double sum = 0;
  for (const Tensor& x : tensors) {
    if (x.empty()) continue;
    dispatch_floating(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const std::span<T> values = x.span<T>();
      sum += tree_sum_of_squares(std::span<const T>(values.data(), values.size()));
    });
  }
  return sum;
}

}  // namespace carillon
