// Ops on rows of channels: norms, rotation, SwiGLU, cross-entropy. Each thread processes whole rows.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/cpu/cpu_backend.h"

namespace carillon {
namespace {

using namespace cpu;

Tensor as_heads(Tensor x) { return x.rank() == 3 ? x : x.split_dim(1, 1); }
Tensor as_head_rows(Tensor rstd) { return rstd.rank() == 2 ? rstd : rstd.reshape({-1, 1}); }

bool last_dim_packed(const Tensor& x) { return x.size(-1) <= 1 || x.stride(-1) == 1; }

template <class T>
T* row(const Tensor& x, int64_t n) {
  return x.data<T>() + n * x.stride(0);
}
template <class T>
T* row(const Tensor& x, int64_t n, int64_t h) {
  return x.data<T>() + n * x.stride(0) + h * x.stride(1);
}

// Sums over rows are formed for this number of runs of rows, whatever the number of threads, then added in order.
constexpr int64_t kRuns = 16;

}  // namespace

namespace {

template <class A>
NormNumbers<A> numbers_of(const NormOptions& options, double epsilon, int64_t channels) {
  return {static_cast<A>(epsilon), static_cast<A>(options.weight_offset),
          options.sums ? options.sums.span<A>().data() : nullptr, options.sums ? options.columns : channels};
}

// The numbers of row n: points to its own sum if sums are given.
template <class A>
NormNumbers<A> of_row(NormNumbers<A> all, int64_t n) {
  if (all.sum != nullptr) all.sum += n;
  return all;
}

}  // namespace

void CpuBackend::rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon,
                                 const NormOptions& options) {
  y = as_heads(y), x = as_heads(x), rstd = as_head_rows(rstd);
  if (!last_dim_packed(x) || !last_dim_packed(y))
    return ReferenceBackend::rmsnorm_forward(y, rstd, x, weight, epsilon, options);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const T* w = weight.span<T>().data();
    const int64_t channels = x.size(2);
    const NormNumbers<A> norm = numbers_of<A>(options, epsilon, channels);
#pragma omp parallel for schedule(static) num_threads(threads_for(x.count()))
    for (int64_t n = 0; n < x.size(0); ++n)
      for (int64_t h = 0; h < x.size(1); ++h)
        *row<A>(rstd, n, h) = kernel.rmsnorm_forward(row<T>(y, n, h), row<T>(x, n, h), w, channels, of_row(norm, n));
  });
}

// A row is added and normed while it is in the cache.
void CpuBackend::sum_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor branch, Tensor weight,
                                     double epsilon, const NormOptions& options) {
  for (const Tensor& other : {y, x, branch})
    CHECK(other.shape() == sum.shape() && other.dtype() == sum.dtype(), "a norm of a sum of tensors of one shape",
          carillon::describe(other), carillon::describe(sum));
  if (sum.rank() != 2 || !last_dim_packed(sum) || !last_dim_packed(y) || !last_dim_packed(x) ||
      !last_dim_packed(branch))
    return ReferenceBackend::sum_rmsnorm_forward(sum, y, rstd, x, branch, weight, epsilon, options);
  const Tensor statistic = as_head_rows(rstd);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const T* w = weight.span<T>().data();
    const int64_t channels = x.size(1);
    const NormNumbers<A> norm = numbers_of<A>(options, epsilon, channels);
#pragma omp parallel for schedule(static) num_threads(threads_for(x.count()))
    for (int64_t n = 0; n < x.size(0); ++n) {
      kernel.add_rows(row<T>(sum, n), row<T>(x, n), row<T>(branch, n), channels);
      *row<A>(statistic, n, 0) = kernel.rmsnorm_forward(row<T>(y, n), row<T>(sum, n), w, channels, of_row(norm, n));
    }
  });
}

void CpuBackend::rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                                  bool accumulate, const NormOptions& options) {
  dx = as_heads(dx), dy = as_heads(dy), x = as_heads(x), rstd = as_head_rows(rstd);
  const Tensor y = options.output ? as_heads(options.output) : Tensor();
  if (!last_dim_packed(x) || !last_dim_packed(dx) || !last_dim_packed(dy) || (y && !last_dim_packed(y)))
    return ReferenceBackend::rmsnorm_backward(dx, dweight, dy, x, weight, rstd, accumulate, options);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const T* w = weight.span<T>().data();
    const int64_t channels = x.size(2), rows = x.size(0);
    const NormNumbers<A> norm = numbers_of<A>(options, 0, channels);
    std::vector<A> partial(static_cast<size_t>(kRuns * channels));
#pragma omp parallel for schedule(static) num_threads(threads_for(x.count()))
    for (int64_t run = 0; run < kRuns; ++run) {
      A* sums = partial.data() + run * channels;
      for (int64_t n = rows * run / kRuns; n < rows * (run + 1) / kRuns; ++n)
        for (int64_t h = 0; h < x.size(1); ++h)
          kernel.rmsnorm_backward(row<T>(dx, n, h), sums, y ? row<T>(y, n, h) : nullptr, row<T>(dy, n, h),
                                  row<T>(x, n, h), w, *row<A>(rstd, n, h), channels, of_row(norm, n), accumulate);
    }
    if (!dweight) return;
    A* dw = dweight.span<A>().data();
    if (options.overwrite_weight) std::fill(dw, dw + channels, A(0));
    for (int64_t run = 0; run < kRuns; ++run)
      for (int64_t c = 0; c < channels; ++c) dw[c] += partial[static_cast<size_t>(run * channels + c)];
  });
}

void CpuBackend::rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) {
  const int64_t pairs = cosine.size(1), table = cosine.size(0);
  CHECK(x.rank() == 3 && 2 * pairs <= x.size(2) && position.size(0) == x.size(0), "rotation shapes",
        carillon::describe(x), carillon::describe(cosine));
  if (!last_dim_packed(x) || !cosine.packed() || !sine.packed() || !position.packed())
    return ReferenceBackend::rotate(x, position, cosine, sine, inverse);
  const int64_t* at = position.data<int64_t>();
  for (int64_t n = 0; n < x.size(0); ++n)
    CHECK(0 <= at[n] && at[n] < table, "position beyond the rotation table", at[n], table);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const A sign = inverse ? A(-1) : A(1);
#pragma omp parallel for schedule(static) num_threads(threads_for(x.count()))
    for (int64_t n = 0; n < x.size(0); ++n) {
      kernel.rotate(row<T>(x, n), x.stride(1), x.size(1), cosine.data<A>() + at[n] * pairs,
                    sine.data<A>() + at[n] * pairs, sign, pairs);
    }
  });
}

// Computes each block of the generator once for its four columns, since that takes most of the time.
void CpuBackend::dropout(Tensor y, Tensor x, Tensor row_of_rng, const Dropout& dropout, bool accumulate) {
  if (!last_dim_packed(y) || !last_dim_packed(x))
    return ReferenceBackend::dropout(y, x, row_of_rng, dropout, accumulate);
  CHECK(y.shape() == x.shape() && row_of_rng.count() == x.size(0), "dropout shapes", carillon::describe(x),
        carillon::describe(row_of_rng));
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const A scale = static_cast<A>(dropout.scale());
    const uint32_t threshold = dropout.threshold();
    const int64_t* rows = row_of_rng.data<int64_t>();
    const int64_t first = dropout.first_column, end = first + x.size(1);
#pragma omp parallel for schedule(static) num_threads(threads_for(x.count()))
    for (int64_t n = 0; n < x.size(0); ++n) {
      const T* from = row<T>(x, n);
      T* to = row<T>(y, n);
      for (int64_t block = first / 4; 4 * block < end; ++block) {
        const auto words = dropout_words(dropout, rows[n], block);
        for (int64_t column = std::max(4 * block, first); column < std::min(4 * block + 4, end); ++column) {
          const int64_t c = column - first;
          const A kept =
              words[static_cast<size_t>(column - 4 * block)] < threshold ? A(0) : static_cast<A>(from[c]) * scale;
          to[c] = T(accumulate ? static_cast<A>(to[c]) + kept : kept);
        }
      }
    }
  });
}

// x is [N, C], or [N, H, C] with heads.
void CpuBackend::scale_rows(Tensor x, Tensor factor) {
  const Tensor all = as_heads(x);
  if (!last_dim_packed(all)) return ReferenceBackend::scale_rows(x, factor);
  CHECK(factor.count() == x.size(0), "one factor a row", carillon::describe(x), carillon::describe(factor));
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const A* by = factor.span<A>().data();
#pragma omp parallel for schedule(static) num_threads(threads_for(x.count()))
    for (int64_t n = 0; n < all.size(0); ++n)
      for (int64_t h = 0; h < all.size(1); ++h) {
        T* to = row<T>(all, n, h);
        for (int64_t c = 0; c < all.size(2); ++c) to[c] = T(static_cast<A>(to[c]) * by[n]);
      }
  });
}

void CpuBackend::row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) {
  if (!last_dim_packed(a) || !last_dim_packed(b)) return ReferenceBackend::row_dot(sums, a, b, weight, weight_offset);
  CHECK(a.shape() == b.shape() && sums.count() == a.size(0), "one sum per row", carillon::describe(a),
        carillon::describe(sums));
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    A* to = sums.span<A>().data();
    const T* w = weight ? weight.span<T>().data() : nullptr;
#pragma omp parallel for schedule(static) num_threads(threads_for(a.count()))
    for (int64_t n = 0; n < a.size(0); ++n)
      to[n] = w == nullptr
                  ? kernel.row_dot(row<T>(a, n), row<T>(b, n), a.size(1))
                  : kernel.row_dot_weighted(row<T>(a, n), row<T>(b, n), w, static_cast<A>(weight_offset), a.size(1));
  });
}

void CpuBackend::swiglu_forward(Tensor y, Tensor gate, Tensor up, GateActivation activation) {
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
#pragma omp parallel for schedule(static) num_threads(threads_for(y.count()))
    for (int64_t n = 0; n < y.size(0); ++n)
      kernel.swiglu_forward[static_cast<int>(activation)](row<T>(y, n), row<T>(gate, n), row<T>(up, n), y.size(1));
  });
}

void CpuBackend::swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up,
                                 GateActivation activation) {
  dispatch_floating(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
#pragma omp parallel for schedule(static) num_threads(threads_for(dy.count()))
    for (int64_t n = 0; n < dy.size(0); ++n)
      kernel.swiglu_backward[static_cast<int>(activation)](row<T>(dgate, n), row<T>(dup, n), row<T>(y, n),
                                                           row<T>(dy, n), row<T>(gate, n), row<T>(up, n), dy.size(1));
  });
}

void CpuBackend::cross_entropy_maximum(Tensor maximum, Tensor logits) {
  if (logits.dtype() == DType::kBFloat16) return ReferenceBackend::cross_entropy_maximum(maximum, logits);
  dispatch_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<A>& kernel = kernels<A>(instruction_set_);
    A* to = maximum.span<A>().data();
#pragma omp parallel for schedule(static) num_threads(threads_for(logits.count()))
    for (int64_t n = 0; n < logits.size(0); ++n) to[n] = kernel.row_maximum(row<A>(logits, n), logits.size(1));
  });
}

void CpuBackend::cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) {
  if (logits.dtype() == DType::kBFloat16)
    return ReferenceBackend::cross_entropy_sums(sums, logits, maximum, target, first_column);
  dispatch_floating(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<A>& kernel = kernels<A>(instruction_set_);
    const A* largest = maximum.span<A>().data();
    const int64_t* wanted = target.span<int64_t>().data();
#pragma omp parallel for schedule(static) num_threads(threads_for(logits.count()))
    for (int64_t n = 0; n < logits.size(0); ++n) {
      const A* z = row<A>(logits, n);
      const int64_t column = wanted[n] - first_column;
      const bool here = wanted[n] >= 0 && 0 <= column && column < logits.size(1);
      *row<A>(sums, 0, n) = kernel.row_sum_exp(z, logits.size(1), largest[n]);
      *row<A>(sums, 1, n) = here ? z[column] - largest[n] : A(0);
    }
  });
}

void CpuBackend::cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums,
                                      Tensor target, Tensor weight, int64_t first_column, double cap) {
  if (logits.dtype() == DType::kBFloat16 || cap != 0)
    return ReferenceBackend::cross_entropy_finish(loss, gradient, logits, maximum, sums, target, weight, first_column,
                                                  cap);
  dispatch_floating(gradient ? gradient.dtype() : logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const A* largest = maximum.span<A>().data();
    const A* weights = weight.span<A>().data();
    A* losses = loss.span<A>().data();
    const int64_t* wanted = target.span<int64_t>().data();
    const int64_t columns = logits.size(1);
#pragma omp parallel for schedule(static) num_threads(threads_for(logits.count()))
    for (int64_t n = 0; n < logits.size(0); ++n) {
      const A sum = *row<A>(sums, 0, n);
      losses[n] = wanted[n] >= 0 ? std::log(sum) - *row<A>(sums, 1, n) : A(0);
      if (!gradient) continue;
      const A* z = row<A>(logits, n);
      T* to = row<T>(gradient, n);
      if (wanted[n] < 0 || weights[n] == 0) {
        std::fill(to, to + columns, T(A(0)));
        continue;
      }
      const int64_t column = wanted[n] - first_column;
      const bool here = 0 <= column && column < columns;
      // Computed in A, before rounding and before the gradient overwrites the logits.
      const A at_target = here ? weights[n] * (std::exp(z[column] - largest[n]) / sum - 1) : A(0);
      kernel.row_softmax(to, z, columns, largest[n], weights[n] / sum);
      if (here) to[column] = T(at_target);
    }
  });
}

}  // namespace carillon
