// Copies, sums and the optimizer's pass: bound by memory, so plain loops over packed rows, shared out by OpenMP.
// Tensors with gaps go row by row; anything stranger is the reference's.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/cpu/cpu_backend.h"

namespace carillon {

using namespace cpu;

namespace {

constexpr int64_t kBlock = 1 << 14;  // elements a thread takes at a time

// Offsets of the runs along the last dim, which must be packed in both; false when it is not.
struct Rows {
  int64_t count = 1;   // runs
  int64_t length = 1;  // elements of one
  std::vector<int64_t> size, stride_a, stride_b;

  bool find(const Tensor& a, const Tensor& b) {
    if (a.packed() && b.packed()) {
      length = a.count();
      return true;
    }
    const int last = a.rank() - 1;
    if (a.rank() == 0 || (a.size(last) > 1 && (a.stride(last) != 1 || b.stride(last) != 1))) return false;
    length = a.size(last);
    for (int dim = 0; dim < last; ++dim) {
      size.push_back(a.size(dim));
      stride_a.push_back(a.stride(dim));
      stride_b.push_back(b.stride(dim));
      count *= a.size(dim);
    }
    return true;
  }
  void offsets(int64_t row, int64_t& a, int64_t& b) const {
    a = b = 0;
    for (size_t dim = size.size(); dim-- > 0;) {
      a += row % size[dim] * stride_a[dim];
      b += row % size[dim] * stride_b[dim];
      row /= size[dim];
    }
  }
};

// Calls visit(offset in a, offset in b, count) for pieces of at most kBlock elements, on `threads` threads.
template <class Visit>
void for_each_piece(const Rows& rows, int threads, Visit visit) {
  const int64_t pieces = std::max<int64_t>(1, (rows.length + kBlock - 1) / kBlock);
  const bool worth_it = rows.count * rows.length > kBlock;
#pragma omp parallel for schedule(static) num_threads(threads) if (worth_it && threads > 1)
  for (int64_t item = 0; item < rows.count * pieces; ++item) {
    int64_t a, b;
    rows.offsets(item / pieces, a, b);
    const int64_t begin = item % pieces * kBlock;
    visit(a + begin, b + begin, std::min(kBlock, rows.length - begin));
  }
}

template <class Y, class X>
Y converted(X value) {
  if constexpr (std::is_same_v<X, Y>)
    return value;
  else if constexpr (std::is_same_v<X, bfloat16>)
    return static_cast<Y>(static_cast<float>(value));
  else
    return Y(value);
}

}  // namespace

void CpuBackend::fill(Tensor x, double value) {
  Rows rows;
  if (x.dtype() > DType::kBFloat16 || !rows.find(x, x)) return ReferenceBackend::fill(x, value);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T repeated = T(static_cast<accumulate_t<T>>(value));
    for_each_piece(rows, threads_, [to = x.data<T>(), repeated](int64_t a, int64_t, int64_t count) {
      std::fill(to + a, to + a + count, repeated);
    });
  });
}

void CpuBackend::copy(Tensor y, Tensor x) {
  Rows rows;
  const bool floating = y.dtype() <= DType::kBFloat16 && x.dtype() <= DType::kBFloat16;
  if (!floating || y.shape() != x.shape() || !rows.find(y, x)) return ReferenceBackend::copy(y, x);
  const InstructionSet set = instruction_set_;
  dispatch_floating(y.dtype(), [&](auto zero_y) {
    dispatch_floating(x.dtype(), [&](auto zero_x) {
      using Y = decltype(zero_y);
      using X = decltype(zero_x);
      for_each_piece(rows, threads_, [to = y.data<Y>(), from = x.data<X>(), set](int64_t a, int64_t b, int64_t count) {
        if constexpr (std::is_same_v<X, Y>)
          std::memmove(to + a, from + b, static_cast<size_t>(count) * sizeof(Y));
        else if constexpr (std::is_same_v<X, bfloat16> && std::is_same_v<Y, float>)
          kernels<bfloat16>(set).widen(to + a, from + b, count);
        else if constexpr (std::is_same_v<Y, bfloat16> && std::is_same_v<X, float>)
          kernels<bfloat16>(set).round_scaled(to + a, from + b, 1, count);
        else
          for (int64_t i = 0; i < count; ++i) to[a + i] = converted<Y>(from[b + i]);
      });
    });
  });
}

void CpuBackend::add(Tensor y, Tensor x) {
  Rows rows;
  if (y.shape() != x.shape() || !rows.find(y, x)) return ReferenceBackend::add(y, x);
  const InstructionSet set = instruction_set_;
  dispatch_floating(y.dtype(), [&](auto zero_y) {
    dispatch_floating(x.dtype(), [&](auto zero_x) {
      using Y = decltype(zero_y);
      using X = decltype(zero_x);
      using Sum = std::conditional_t<std::is_same_v<X, double> || std::is_same_v<Y, double>, double, float>;
      for_each_piece(rows, threads_, [to = y.data<Y>(), from = x.data<X>(), set](int64_t a, int64_t b, int64_t count) {
        if constexpr (std::is_same_v<X, Y>)
          kernels<Y>(set).add_rows(to + a, to + a, from + b, count);
        else
          for (int64_t i = 0; i < count; ++i)
            to[a + i] = Y(static_cast<Sum>(to[a + i]) + static_cast<Sum>(from[b + i]));
      });
    });
  });
}

double CpuBackend::sum_of_squares(Tensor x) {
  if (x.empty()) return 0;
  const int64_t count = x.count(), blocks = (count + kBlock - 1) / kBlock;
  std::vector<double> partial(static_cast<size_t>(blocks));
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const T* data = x.span<T>().data();
#pragma omp parallel for schedule(static) num_threads(threads_) if (blocks > 1)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t begin = block * kBlock;
      partial[static_cast<size_t>(block)] = kernel.sum_of_squares(data + begin, std::min(kBlock, count - begin));
    }
  });
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}

// y = a + b in one pass, for the residual.
void CpuBackend::sum(Tensor y, Tensor a, Tensor b) {
  CHECK(y.shape() == a.shape() && y.shape() == b.shape() && y.dtype() == a.dtype() && y.dtype() == b.dtype(),
        "a sum of tensors of one shape and type", carillon::describe(y), carillon::describe(a), carillon::describe(b));
  if (!y.packed() || !a.packed() || !b.packed()) return ReferenceBackend::sum(y, a, b);
  Rows rows;
  rows.find(y, a);
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    for_each_piece(rows, threads_, [&](int64_t at, int64_t, int64_t count) {
      kernel.add_rows(y.data<T>() + at, a.data<T>() + at, b.data<T>() + at, count);
    });
  });
}

void CpuBackend::adamw(Tensor weight, Tensor master, Tensor exp_avg, Tensor exp_avg_sq, Tensor gradient,
                       const AdamWStep& step) {
  if (master.empty()) return;
  const bool in_pass = weight && weight.raw() != master.raw() && weight.dtype() == DType::kBFloat16;
  dispatch_floating(in_pass ? DType::kBFloat16 : master.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    A *w = master.span<A>().data(), *m = exp_avg.span<A>().data(), *v = exp_avg_sq.span<A>().data();
    const A* g = gradient.span<A>().data();
    T* rounded = in_pass ? weight.span<T>().data() : nullptr;
    const AdamWNumbers<A> numbers{A(step.beta1),
                                  A(step.beta2),
                                  A(step.epsilon),
                                  A(step.gradient_scale),
                                  A(1 - step.learning_rate * step.weight_decay),
                                  A(step.learning_rate / (1 - std::pow(step.beta1, static_cast<double>(step.step)))),
                                  A(std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))))};
    const int64_t count = master.count();
#pragma omp parallel for schedule(static) num_threads(threads_) if (count > kBlock)
    for (int64_t begin = 0; begin < count; begin += kBlock)
      kernel.adamw(rounded == nullptr ? nullptr : rounded + begin, w + begin, m + begin, v + begin, g + begin,
                   std::min(kBlock, count - begin), numbers);
  });
  if (weight && weight.raw() != master.raw() && !in_pass) copy(weight, master);
}

}  // namespace carillon
