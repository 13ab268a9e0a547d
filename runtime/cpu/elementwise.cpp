// Copies, sums and the optimizer's update. They are bound by memory, so they are plain loops over packed rows,
// distributed by OpenMP. Tensors with gaps are processed row by row; other layouts go to the reference.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "runtime/cpu/cpu_backend.h"

namespace carillon {

using namespace cpu;

namespace {

constexpr int64_t kBlock = 1 << 14;  // elements that a thread processes at a time

// Two tensors of one shape as rows along their last dim. find() returns false unless that dim is packed in both.
struct Rows {
  int64_t count = 1;   // rows
  int64_t length = 1;  // elements of a row
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

// The same for many packed tensors in one parallel region: visit(tensor, first element, count). The pieces of a tensor
// are distributed in order and evenly. The remainder of the division rotates among the threads from tensor to tensor,
// so that many small tensors are distributed evenly too.
template <class Visit>
void for_each_piece(std::span<const int64_t> lengths, int threads, Visit visit) {
  int64_t all = 0;
  for (const int64_t length : lengths) all += length;
#pragma omp parallel num_threads(threads) if (all > kBlock && threads > 1)
  {
    const int64_t team = omp_get_num_threads();
    int64_t place = omp_get_thread_num();  // this thread's position in the order that gets the next tensor's pieces
    for (size_t tensor = 0; tensor < lengths.size(); ++tensor) {
      const int64_t pieces = (lengths[tensor] + kBlock - 1) / kBlock, over = pieces % team;
      const int64_t first = pieces / team * place + std::min(place, over);
      const int64_t last = first + pieces / team + (place < over ? 1 : 0);
      for (int64_t begin = first * kBlock; begin < std::min(last * kBlock, lengths[tensor]); begin += kBlock)
        visit(tensor, begin, std::min(kBlock, lengths[tensor] - begin));
      place = (place + team - over) % team;
    }
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

void CpuBackend::scale(Tensor x, double factor) {
  Rows rows;
  if (!rows.find(x, x)) return ReferenceBackend::scale(x, factor);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const A by = static_cast<A>(factor);
    for_each_piece(rows, threads_, [to = x.data<T>(), by](int64_t a, int64_t, int64_t count) {
      for (int64_t i = 0; i < count; ++i) to[a + i] = T(static_cast<A>(to[a + i]) * by);
    });
  });
}

double CpuBackend::sum_of_squares(std::span<const Tensor> tensors) {
  std::vector<int64_t> lengths, first;  // per tensor: number of elements, index of its first piece among all pieces
  int64_t pieces = 0;
  for (const Tensor& x : tensors) {
    CHECK(x.packed() && x.dtype() == tensors[0].dtype(), "packed tensors of one type", carillon::describe(x));
    lengths.push_back(x.count());
    first.push_back(pieces);
    pieces += (x.count() + kBlock - 1) / kBlock;
  }
  if (pieces == 0) return 0;
  std::vector<double> partial(static_cast<size_t>(pieces));
  dispatch_floating(tensors[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    for_each_piece(lengths, threads_, [&](size_t tensor, int64_t begin, int64_t count) {
      partial[static_cast<size_t>(first[tensor] + begin / kBlock)] =
          kernel.sum_of_squares(static_cast<const T*>(tensors[tensor].raw()) + begin, count);
    });
  });
  double sum = 0;
  for (size_t tensor = 0; tensor < tensors.size(); ++tensor) {
    double own = 0;
    for (int64_t at = 0; at < (lengths[tensor] + kBlock - 1) / kBlock; ++at)
      own += partial[static_cast<size_t>(first[tensor] + at)];
    sum += own;
  }
  return sum;
}

// y = a + b in one pass, for residual connections.
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

void CpuBackend::adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) {
  std::vector<int64_t> lengths;
  DType wide = DType::kFloat32;
  bool rounds = false;  // weights are bfloat16 and stored in the same pass
  for (const AdamWTensors& x : tensors) {
    lengths.push_back(x.master.count());
    if (x.master.empty()) continue;
    wide = x.master.dtype();
    rounds = rounds || (x.weight && x.weight.dtype() == DType::kBFloat16);
  }
  const auto other = [](const AdamWTensors& x) { return x.weight && x.weight.raw() != x.master.raw(); };
  for (const AdamWTensors& x : tensors) {
    if (x.master.empty()) continue;
    for (const Tensor& state : {x.master, x.exp_avg, x.exp_avg_sq, x.gradient})
      CHECK(state.packed() && state.dtype() == wide && state.count() == x.master.count(),
            "masters, moments and gradients of one shape and type", carillon::describe(state),
            carillon::describe(x.master));
    CHECK(!rounds || !other(x) ||
              (x.weight.packed() && x.weight.dtype() == DType::kBFloat16 && x.weight.count() == x.master.count() &&
               wide == DType::kFloat32),
          "weights of one type, of their master's shape", carillon::describe(x.weight), carillon::describe(x.master));
  }
  dispatch_floating(rounds ? DType::kBFloat16 : wide, [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const AdamWNumbers<A> numbers{A(step.beta1),
                                  A(step.beta2),
                                  A(step.epsilon),
                                  A(step.gradient_scale),
                                  A(1 - step.learning_rate * step.weight_decay),
                                  A(step.learning_rate / (1 - std::pow(step.beta1, static_cast<double>(step.step)))),
                                  A(std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))))};
    AdamWNumbers<A> without_decay = numbers;
    without_decay.decay = 1;
    for_each_piece(lengths, threads_, [&](size_t tensor, int64_t begin, int64_t count) {
      const AdamWTensors& x = tensors[tensor];
      const auto at = [begin](const Tensor& whole) { return static_cast<A*>(whole.raw()) + begin; };
      kernel.adamw(rounds && other(x) ? static_cast<T*>(x.weight.raw()) + begin : nullptr, at(x.master), at(x.exp_avg),
                   at(x.exp_avg_sq), at(x.gradient), count, x.decays ? numbers : without_decay);
    });
  });
  if (rounds) return;
  for (const AdamWTensors& x : tensors)
    if (other(x) && !x.master.empty()) copy(x.weight, x.master);
}

}  // namespace carillon
