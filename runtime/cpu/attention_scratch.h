// Shared by the two passes of blocked attention: working memory kept between calls, and the keys that each row sees.
#pragma once

#include <sched.h>

#include <atomic>
#include <vector>

#include "runtime/cpu/cpu_backend.h"
#include "runtime/cpu/growing_buffer.h"

namespace carillon {

// How far each block of keys has advanced through the blocks of queries in a backward pass (attention_backward.cpp).
class Progress {
 public:
  static constexpr int64_t kSums = 2;  // block i follows block i - kSums
  // Starts over, with blocks of keys [first, end) to hand out.
  void reset(int64_t first, int64_t end) {
    if (static_cast<int64_t>(passed_.size()) < end) passed_ = std::vector<Mark>(static_cast<size_t>(end));
    for (int64_t i = first; i < end; ++i) passed_[static_cast<size_t>(i)].count.store(0, std::memory_order_relaxed);
    first_ = first;
    next_.store(first, std::memory_order_relaxed);
  }
  int64_t take() { return next_.fetch_add(1, std::memory_order_relaxed); }
  void wait(int64_t key_block, int64_t query_block) const {
    if (key_block < first_ + kSums) return;
    const auto& before = passed_[static_cast<size_t>(key_block - kSums)].count;
    for (int spins = 0; before.load(std::memory_order_acquire) <= query_block; ++spins)
      if (spins < kSpins)
        __builtin_ia32_pause();
      else
        sched_yield();
  }
  void pass(int64_t key_block, int64_t query_block) {
    passed_[static_cast<size_t>(key_block)].count.store(query_block + 1, std::memory_order_release);
  }

 private:
  static constexpr int kSpins = 2000;
  struct alignas(64) Mark {
    std::atomic<int64_t> count{0};
  };
  std::vector<Mark> passed_;
  int64_t first_ = 0;
  std::atomic<int64_t> next_{0};
};

struct CpuBackend::Scratch {
  std::vector<cpu::Visible> visible;         // [b][row]
  GrowingBuffer k, v;                        // forward: packed keys and values of all heads
  struct Thread {                            // blocks of one thread
    GrowingBuffer q, out, numbers, scores;   // forward
    GrowingBuffer p, ds, ds_across, dk, dv;  // backward
  };
  struct Head {  // backward: one key/value head and one of its query heads
    GrowingBuffer k_rows, k_lanes, v_rows, q_panels, q_lanes, dout_panels, dout_lanes, rows, dq;
  };
  std::vector<Thread> threads;
  std::vector<Head> heads;         // one per thread; threads that share a head use the first
  std::vector<Progress> progress;  // likewise
};

// Finds for each row [b][i] the keys it sees, as an interval of the block's keys.
void find_visible(const AttentionMask& mask, int threads, std::vector<cpu::Visible>& visible);

template <class T>
__attribute__((always_inline)) inline T* element_at(const Tensor& x, int64_t b, int64_t row, int64_t head) {
  return x.data<T>() + b * x.stride(0) + row * x.stride(1) + head * x.stride(2);
}

}  // namespace carillon
