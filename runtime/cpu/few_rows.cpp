// Products and attention of a few rows, as in generating a token (kernels/few_rows.h). Threads take pieces one after
// another, so that a thread whose core another process takes does not hold up a fixed share, and their number adapts
// (thread_choice.h). Pieces depend on shapes alone, so results do not depend on the threads.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "runtime/cpu/attention_scratch.h"
#include "runtime/cpu/cpu_backend.h"

namespace carillon {
namespace {

constexpr int64_t kMostRows = 4;           // more have not been measured
constexpr int64_t kPieceBytes = 32 << 10;  // of weights that a thread takes at a time
constexpr int64_t kKeysAtOnce = 256;       // of a head that a thread takes at a time

// Reports the time from its construction to its destruction.
class Timed {
 public:
  Timed(cpu::ThreadChoice& choice, int64_t work) : choice_(choice), work_(work) {}
  ~Timed() { choice_.add(work_, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count()); }

 private:
  cpu::ThreadChoice& choice_;
  int64_t work_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

bool CpuBackend::takes_few_rows(const Tensor& c, bool transpose_a, bool transpose_b) const {
  return c.size(0) <= kMostRows && !transpose_a && transpose_b;
}

void CpuBackend::few_rows_product(Tensor c, Tensor a, Tensor b, bool accumulate) {
  const int64_t rows = c.size(0), columns = c.size(1), inner = a.size(1);
  dispatch_floating(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const cpu::Kernels<T>& kernel = cpu::kernels<T>(instruction_set_);
    A* left = few_rows_.get<A>(rows * inner);
    for (int64_t row = 0; row < rows; ++row) kernel.widen(left + row * inner, a.data<T>() + row * a.stride(0), inner);
    const int64_t step = std::max<int64_t>(1, kPieceBytes / (inner * static_cast<int64_t>(sizeof(T))));
    const int64_t pieces = (columns + step - 1) / step;
    const Timed timed(few_rows_threads_, columns * inner * static_cast<int64_t>(sizeof(T)));
    const int threads = pieces > 1 ? few_rows_threads_.threads() : 1;
    dispatch_floating(c.dtype(), [&](auto one) {
      using C = decltype(one);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
      for (int64_t piece = 0; piece < pieces; ++piece) {
        constexpr int64_t kAtOnce = 64;  // columns whose sums lie on the stack
        A sums[kMostRows * kAtOnce];
        const int64_t end = std::min(columns, (piece + 1) * step);
        for (int64_t first = piece * step; first < end; first += kAtOnce) {
          const int64_t count = std::min(kAtOnce, end - first);
          kernel.few_rows_product(
              {left, b.data<T>() + first * b.stride(0), b.stride(0), sums, kAtOnce, rows, count, inner});
          for (int64_t row = 0; row < rows; ++row) {
            C* to = c.data<C>() + row * c.stride(0) + first;
            for (int64_t i = 0; i < count; ++i) {
              const A sum = sums[row * kAtOnce + i];
              to[i] = static_cast<C>(accumulate ? static_cast<A>(to[i]) + sum : sum);
            }
          }
        }
      }
    });
  });
}

bool CpuBackend::takes_few_rows(const Tensor& q) const { return q.size(1) <= kMostRows; }

// Each piece of kKeysAtOnce keys gives numbers of its own, which are folded into the state in the order of the keys.
void CpuBackend::few_rows_attention(const AttentionState& state, Tensor q, Tensor k, Tensor v, double scale) {
  Scratch& scratch = this->scratch();
  const std::vector<cpu::Visible>& visible = scratch.visible;
  dispatch_floating(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const cpu::Kernels<T>& kernel = cpu::kernels<T>(instruction_set_);
    const int64_t batch = q.size(0), rows = q.size(1), heads = q.size(2), width = q.size(3);
    const int64_t kv_heads = k.size(2), group = heads / std::max<int64_t>(kv_heads, 1);
    int64_t first = k.size(1), last = 0;  // keys that any row sees
    for (const cpu::Visible& row : visible)
      if (row.begin < row.end) first = std::min(first, row.begin), last = std::max(last, row.end);
    if (first >= last || width == 0) return;
    const int64_t first_piece = first / kKeysAtOnce, pieces = (last + kKeysAtOnce - 1) / kKeysAtOnce - first_piece;
    // An item is a row of the heads that share keys.
    const int64_t items = batch * rows * kv_heads, numbers = width + 2;
    A* folded = few_rows_.get<A>(items * pieces * group * numbers);
    const auto keys_of = [&](int64_t item, int64_t piece) {  // those that the row sees
      const cpu::Visible& row = visible[static_cast<size_t>(item / kv_heads)];
      const int64_t begin = (first_piece + piece) * kKeysAtOnce;
      return cpu::Visible{std::max(row.begin, begin), std::min(row.end, begin + kKeysAtOnce)};
    };
    const bool small = items * group * (last - first) * width <= kPieceBytes;
#pragma omp parallel for schedule(dynamic) num_threads(small ? 1 : few_rows_threads_.threads())
    for (int64_t work = 0; work < items * pieces; ++work) {
      const int64_t item = work / pieces, piece = work % pieces;
      const cpu::Visible keys = keys_of(item, piece);
      if (keys.begin >= keys.end) continue;
      const int64_t b = item / (rows * kv_heads), row = item / kv_heads % rows, g = item % kv_heads;
      Scratch::Thread& own = scratch.threads[static_cast<size_t>(omp_get_thread_num())];
      A* query = own.q.get<A>(group * width);
      for (int64_t h = 0; h < group; ++h)
        kernel.widen(query + h * width, element_at<T>(q, b, row, g * group + h), width);
      kernel.few_rows_attention({query, element_at<T>(k, b, keys.begin, g), element_at<T>(v, b, keys.begin, g),
                                 k.stride(1), v.stride(1), group, keys.end - keys.begin, width, static_cast<A>(scale),
                                 own.scores.get<A>(group * kKeysAtOnce), folded + work * group * numbers, numbers});
    }
    for (int64_t index = 0; index < items * group; ++index) {
      const int64_t item = index / group, b = item / (rows * kv_heads), row = item / kv_heads % rows,
                    h = item % kv_heads * group + index % group;
      A& maximum = *element_at<A>(state.maximum, b, h, row);
      A& sum = *element_at<A>(state.sum, b, h, row);
      A* out = element_at<A>(state.accumulator, b, row, h);
      for (int64_t piece = 0; piece < pieces; ++piece) {
        const cpu::Visible keys = keys_of(item, piece);
        if (keys.begin >= keys.end) continue;
        const A* from = folded + ((item * pieces + piece) * group + index % group) * numbers;
        const bool begun = sum != 0;  // else the accumulator is uninitialised
        const A larger = begun ? std::max(maximum, from[0]) : from[0];
        const A kept = begun ? std::exp(maximum - larger) : A(0), added = std::exp(from[0] - larger);
        sum = sum * kept + from[1] * added;
        for (int64_t i = 0; i < width; ++i) out[i] = (begun ? out[i] * kept : A(0)) + from[2 + i] * added;
        maximum = larger;
      }
    }
  });
}

}  // namespace carillon
