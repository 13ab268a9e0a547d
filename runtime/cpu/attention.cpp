// Blocked attention (Dao et al., 2022; online softmax of Milakov and Gimelshein, 2018): cuts the work into blocks that
// fit the cache, packs operands once and hands both to the kernels. Memory grows with the tokens, never with their
// square.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <vector>

#include "runtime/cpu/cpu_backend.h"

namespace carillon {
namespace {

using namespace cpu;

// A buffer that grows and keeps its memory; contents are lost when it grows.
class Grow {
 public:
  ~Grow() { std::free(data_); }
  template <class A>
  A* get(int64_t count) {
    const size_t bytes = (static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(A) + 63) / 64 * 64;
    if (bytes > bytes_) {
      std::free(data_);
      data_ = std::aligned_alloc(64, bytes);
      if (data_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return static_cast<A*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Interleaved sets of key blocks that are worked on side by side in the backward pass, each with gradients by the
// queries of its own; a number of its own right, so that sums do not depend on the threads.
constexpr int kSets = 8;
// Up to so many key blocks a head is one thread's work, and heads are shared out.
constexpr int64_t kBlocksOfOneThread = 8;

// For each row [b][i] the keys it sees, as a run of the block's keys.
void find_visible(const AttentionMask& mask, std::vector<Visible>& visible) {
  const int64_t batch = mask.first.size(0), rows = mask.first.size(1), keys = mask.key_index.size(0);
  const int64_t* key = mask.key_index.data<int64_t>();
  const int64_t* query = mask.query_index.data<int64_t>();
  CHECK(mask.key_index.packed() && mask.query_index.packed(), "indices are packed");
  visible.resize(static_cast<size_t>(batch * rows));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t first = mask.first.data<int64_t>()[b * mask.first.stride(0) + i * mask.first.stride(1)];
      visible[static_cast<size_t>(b * rows + i)] = {std::lower_bound(key, key + keys, first) - key,
                                                    std::upper_bound(key, key + keys, query[i]) - key};
    }
}

template <class T>
const T* at(const Tensor& x, int64_t b, int64_t row, int64_t head) {
  return x.data<T>() + b * x.stride(0) + row * x.stride(1) + head * x.stride(2);
}
template <class T>
T* at_mutable(const Tensor& x, int64_t b, int64_t row, int64_t head) {
  return x.data<T>() + b * x.stride(0) + row * x.stride(1) + head * x.stride(2);
}

}  // namespace

struct CpuBackend::Scratch {
  std::vector<Visible> visible;
  Grow k, v;                       // forward: packed keys and values of all heads
  struct Thread {                  // one thread's blocks
    Grow q, out, scores, numbers;  // forward
    Grow p, ds, dk, dv;            // backward
    std::vector<Visible> visible;
  };
  struct Head {  // backward: one key/value head and one query head of it
    Grow k, v, q, dout, q_panels, dout_panels, rows, dq;
  };
  std::vector<Thread> threads;
  std::vector<Head> heads;
};

void CpuBackend::ScratchDeleter::operator()(Scratch* scratch) const { delete scratch; }
CpuBackend::Scratch& CpuBackend::scratch() {
  if (!scratch_) {
    scratch_.reset(new Scratch);
    scratch_->threads = std::vector<Scratch::Thread>(static_cast<size_t>(std::max(threads_, kSets)));
    scratch_->heads = std::vector<Scratch::Head>(static_cast<size_t>(threads_));
  }
  return *scratch_;
}

void CpuBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                                   double scale) {
  Scratch& work = scratch();
  find_visible(mask, work.visible);
  dispatch_floating(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const int64_t batch = q.size(0), rows = q.size(1), heads = q.size(2), width = q.size(3);
    const int64_t keys = k.size(1), kv_heads = k.size(2), group = heads / std::max<int64_t>(kv_heads, 1);
    const int64_t padded = round_to_panel(width), all_keys = round_to_panel(keys), panels = all_keys / kPanel;
    if (rows == 0 || keys == 0) return;
    A* packed_k = work.k.get<A>(batch * kv_heads * all_keys * width);
    A* packed_v = work.v.get<A>(batch * kv_heads * all_keys * padded);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
    for (int64_t bg = 0; bg < batch * kv_heads; ++bg)
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t b = bg / kv_heads, g = bg % kv_heads, first = panel * kPanel,
                      count = std::min(kPanel, keys - first);
        kernel.pack_panel(packed_k + (bg * all_keys + first) * width, at<T>(k, b, first, g), k.stride(1), count, width,
                          A(1));
        kernel.pack_rows(packed_v + (bg * all_keys + first) * padded, at<T>(v, b, first, g), v.stride(1), count, width,
                         A(1));
      }
    const int64_t blocks = (rows + kForwardRows - 1) / kForwardRows;
    // Late blocks see most keys and go first; every block is independent, so who takes it does not matter.
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
    for (int64_t item = 0; item < batch * heads * blocks; ++item) {
      Scratch::Thread& own = work.threads[static_cast<size_t>(omp_get_thread_num())];
      const int64_t block = blocks - 1 - item / (batch * heads), b = item % (batch * heads) / heads, h = item % heads;
      const int64_t first = block * kForwardRows, count = std::min(kForwardRows, rows - first);
      const Visible* visible = &work.visible[static_cast<size_t>(b * rows + first)];
      bool any = false;
      for (int64_t r = 0; r < count; ++r) any = any || visible[r].begin < visible[r].end;
      if (!any) continue;
      A* block_q = own.q.get<A>(kForwardRows * padded);
      A* out = own.out.get<A>(kForwardRows * padded);
      A* numbers = own.numbers.get<A>(2 * kForwardRows);
      A* scores = own.scores.get<A>(kForwardRows * kForwardKeys);
      kernel.pack_rows(block_q, at<T>(q, b, first, h), q.stride(1), count, width, static_cast<A>(scale));
      for (int64_t r = 0; r < count; ++r) {
        const A* from = at<A>(state.accumulator, b, first + r, h);
        std::copy(from, from + width, out + r * padded);
        std::fill(out + r * padded + width, out + (r + 1) * padded, A(0));
      }
      A* maximum = at_mutable<A>(state.maximum, b, h, first);
      A* sum = at_mutable<A>(state.sum, b, h, first);
      std::copy(maximum, maximum + count, numbers);
      std::copy(sum, sum + count, numbers + kForwardRows);
      const int64_t bg = b * kv_heads + h / group;
      kernel.attention_forward({count, width, block_q, packed_k + bg * all_keys * width,
                                packed_v + bg * all_keys * padded, visible, out, numbers, numbers + kForwardRows,
                                scores});
      std::copy(numbers, numbers + count, maximum);
      std::copy(numbers + kForwardRows, numbers + kForwardRows + count, sum);
      for (int64_t r = 0; r < count; ++r)
        std::copy(out + r * padded, out + r * padded + width, at_mutable<A>(state.accumulator, b, first + r, h));
    }
  });
}

void CpuBackend::attention_finish(Tensor out, Tensor lse, const AttentionState& state) {
  dispatch_floating(out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const int64_t batch = out.size(0), rows = out.size(1), heads = out.size(2), width = out.size(3);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t h = 0; h < heads; ++h) {
          const A sum = *at<A>(state.sum, b, h, i), maximum = *at<A>(state.maximum, b, h, i);
          const A* from = at<A>(state.accumulator, b, i, h);
          T* to = at_mutable<T>(out, b, i, h);
          const A factor = sum == 0 ? A(0) : 1 / sum;
          *at_mutable<A>(lse, b, h, i) = sum == 0 ? -std::numeric_limits<A>::infinity() : maximum + std::log(sum);
          for (int64_t d = 0; d < width; ++d) to[d] = T(sum == 0 ? A(0) : from[d] * factor);
        }
  });
}

void CpuBackend::attention_delta(Tensor delta, Tensor dout, Tensor out) {
  dispatch_floating(out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const int64_t batch = out.size(0), rows = out.size(1), heads = out.size(2), width = out.size(3);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t h = 0; h < heads; ++h)
          *at_mutable<A>(delta, b, h, i) = kernel.row_dot(at<T>(dout, b, i, h), at<T>(out, b, i, h), width);
  });
}

namespace {

// One call of attention_backward, typed.
template <class T>
struct Backward {
  using A = accumulate_t<T>;
  const Kernels<T>& kernel;
  Tensor dq, dk, dv, q, k, v, dout, lse, delta;
  const Visible* visible;  // [b][row]
  A scale;
  int64_t rows = q.size(1), keys = k.size(1), width = q.size(3), group = q.size(2) / std::max<int64_t>(k.size(2), 1);
  int64_t padded = round_to_panel(width), all_rows = round_to_panel(rows);
  int64_t key_blocks = (keys + kBackwardKeys - 1) / kBackwardKeys;

  template <class Head>
  void pack_keys(Head& head, int64_t b, int64_t g, int threads) const {
    A* to_k = head.k.template get<A>(keys * padded);
    A* to_v = head.v.template get<A>(keys * padded);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < keys; first += kPanel) {
      const int64_t count = std::min(kPanel, keys - first);
      kernel.pack_rows(to_k + first * padded, at<T>(k, b, first, g), k.stride(1), count, width, A(1));
      kernel.pack_rows(to_v + first * padded, at<T>(v, b, first, g), v.stride(1), count, width, A(1));
    }
  }

  template <class Head>
  void pack_queries(Head& head, int64_t b, int64_t h, int threads) const {
    A* to_q = head.q.template get<A>(rows * padded);
    A* to_dout = head.dout.template get<A>(rows * padded);
    A* q_panels = head.q_panels.template get<A>(all_rows * width);
    A* dout_panels = head.dout_panels.template get<A>(all_rows * width);
    A* row_lse = head.rows.template get<A>(2 * all_rows);
    A* row_delta = row_lse + all_rows;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < rows; first += kPanel) {
      const int64_t count = std::min(kPanel, rows - first);
      kernel.pack_rows(to_q + first * padded, at<T>(q, b, first, h), q.stride(1), count, width, scale);
      kernel.pack_rows(to_dout + first * padded, at<T>(dout, b, first, h), dout.stride(1), count, width, A(1));
      kernel.pack_panel(q_panels + first * width, at<T>(q, b, first, h), q.stride(1), count, width, scale);
      kernel.pack_panel(dout_panels + first * width, at<T>(dout, b, first, h), dout.stride(1), count, width, A(1));
      for (int64_t i = first; i < first + kPanel; ++i) {
        const A value = i < rows ? *at<A>(lse, b, h, i) : -std::numeric_limits<A>::infinity();
        row_lse[i] = value == -std::numeric_limits<A>::infinity() ? std::numeric_limits<A>::infinity() : value;
        row_delta[i] = i < rows ? *at<A>(delta, b, h, i) : A(0);
      }
    }
  }

  // Key blocks first, first + step, …: dK and dV complete, dQ of this set into `set_dq`.
  template <class Head, class Thread>
  void run_set(Head& head, Thread& own, int64_t b, int64_t g, int64_t first_block, int64_t step, A* set_dq) const {
    A* block_dk = own.dk.template get<A>(kBackwardKeys * padded);
    A* block_dv = own.dv.template get<A>(kBackwardKeys * padded);
    A* p = own.p.template get<A>(kBackwardKeys * kBackwardQueries);
    A* ds = own.ds.template get<A>(kBackwardKeys * kBackwardQueries);
    own.visible.resize(static_cast<size_t>(kBackwardQueries));
    const Visible* mine = visible + b * rows;
    std::fill(set_dq, set_dq + rows * padded, A(0));
    for (int64_t block = first_block; block < key_blocks; block += step) {
      const int64_t key = block * kBackwardKeys, count = std::min(kBackwardKeys, keys - key);
      std::fill(block_dk, block_dk + count * padded, A(0));
      std::fill(block_dv, block_dv + count * padded, A(0));
      bool any = false;
      for (int64_t row = 0; row < rows; row += kBackwardQueries) {
        const int64_t queries = std::min(kBackwardQueries, rows - row);
        bool sees = false;
        for (int64_t i = 0; i < queries; ++i) {
          const Visible& seen = mine[row + i];
          own.visible[static_cast<size_t>(i)] = {seen.begin - key, seen.end - key};
          sees = sees || (seen.begin < seen.end && seen.begin < key + count && seen.end > key);
        }
        if (!sees) continue;
        any = true;
        kernel.attention_backward(BackwardBlock<A>{
            count, queries, width, head.k.template get<A>(keys * padded) + key * padded,
            head.v.template get<A>(keys * padded) + key * padded,
            head.q_panels.template get<A>(all_rows * width) + row * width,
            head.dout_panels.template get<A>(all_rows * width) + row * width,
            head.q.template get<A>(rows * padded) + row * padded,
            head.dout.template get<A>(rows * padded) + row * padded, head.rows.template get<A>(2 * all_rows) + row,
            head.rows.template get<A>(2 * all_rows) + all_rows + row, own.visible.data(), block_dk, block_dv,
            set_dq + row * padded, p, ds});
      }
      if (!any) continue;
      for (int64_t j = 0; j < count; ++j) {
        A* to_dk = at_mutable<A>(dk, b, key + j, g);
        A* to_dv = at_mutable<A>(dv, b, key + j, g);
        for (int64_t d = 0; d < width; ++d) to_dk[d] += block_dk[j * padded + d];
        for (int64_t d = 0; d < width; ++d) to_dv[d] += block_dv[j * padded + d];
      }
    }
  }

  // All query heads of key/value head g, one after another.
  template <class Head, class Threads>
  void run_group(Head& head, Threads& own, int64_t thread, int64_t b, int64_t g, int sets, int threads) const {
    pack_keys(head, b, g, threads);
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
      pack_queries(head, b, h, threads);
      A* set_dq = head.dq.template get<A>(sets * rows * padded);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
      for (int set = 0; set < sets; ++set)
        run_set(head, own[static_cast<size_t>(sets > 1 ? set : thread)], b, g, set, sets, set_dq + set * rows * padded);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
      for (int64_t i = 0; i < rows; ++i) {
        A* to = at_mutable<A>(dq, b, i, h);
        for (int64_t d = 0; d < width; ++d) {
          A sum = 0;
          for (int set = 0; set < sets; ++set) sum += set_dq[(set * rows + i) * padded + d];
          to[d] += sum * scale;
        }
      }
    }
  }
};

}  // namespace

void CpuBackend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                    Tensor lse, Tensor delta, const AttentionMask& mask, double scale) {
  if (q.empty() || k.empty()) return;
  Scratch& work = scratch();
  find_visible(mask, work.visible);
  dispatch_floating(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Backward<T> backward{
        kernels<T>(instruction_set_),       dq, dk, dv, q, k, v, dout, lse, delta, work.visible.data(),
        static_cast<accumulate_t<T>>(scale)};
    const int64_t groups = q.size(0) * k.size(2), kv_heads = k.size(2);
    if (backward.key_blocks <= kBlocksOfOneThread) {
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
      for (int64_t item = 0; item < groups; ++item) {
        const int64_t thread = omp_get_thread_num();
        backward.run_group(work.heads[static_cast<size_t>(thread)], work.threads, thread, item / kv_heads,
                           item % kv_heads, 1, 1);
      }
    } else {
      for (int64_t item = 0; item < groups; ++item)
        backward.run_group(work.heads[0], work.threads, 0, item / kv_heads, item % kv_heads, kSets, threads_);
    }
  });
}

}  // namespace carillon
