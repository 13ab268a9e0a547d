// Forward pass of blocked attention (Dao et al., 2022; online softmax of Milakov and Gimelshein, 2018): cuts the work
// into blocks that fit the cache, packs operands once and calls the kernels. Memory is linear in the number of tokens.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/cpu/attention_scratch.h"

namespace carillon {

using namespace cpu;

void CpuBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                                   double scale, const AttentionEnds& ends) {
  CHECK(scale > 0, "scores are scaled by a positive number", scale);
  if (ends.first) attention_begin(state, ends.sinks);
  Scratch& work = scratch();
  find_visible(mask, threads_, work.visible);
  if (takes_few_rows(q)) {
    few_rows_attention(state, q, k, v, scale);
    if (ends.out) attention_finish(ends.out, ends.lse, state);
    return;
  }
  dispatch_floating(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const int64_t batch = q.size(0), rows = q.size(1), heads = q.size(2), width = q.size(3);
    const int64_t keys = k.size(1), kv_heads = k.size(2), group = heads / std::max<int64_t>(kv_heads, 1);
    const int64_t padded = padded_width(width), all_keys = round_to_panel(keys), panels = all_keys / kPanel;
    const int64_t depth = kernel.words(width), panel_words = depth * kPanel,
                  lane_words = kPanel / kernel.depth * padded;  // of one panel's keys
    if (rows == 0 || keys == 0) return;
    const int threads = threads_for_products(batch * heads * rows * keys * width);
    A* packed_k = work.k.get<A>(batch * kv_heads * panels * panel_words);
    A* packed_v = work.v.get<A>(batch * kv_heads * panels * lane_words);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t item = 0; item < batch * kv_heads * panels; ++item) {
      const int64_t bg = item / panels, b = bg / kv_heads, g = bg % kv_heads, first = item % panels * kPanel,
                    count = std::min(kPanel, keys - first);
      kernel.pack_panel(packed_k + item * panel_words, element_at<T>(k, b, first, g), k.stride(1), count, width);
      kernel.pack_lanes(packed_v + item * lane_words, element_at<T>(v, b, first, g), v.stride(1), count, width);
    }
    const int64_t blocks = (rows + kForwardRows - 1) / kForwardRows;
    // Late blocks see the most keys, so they go first. Blocks are independent; any thread may compute any of them.
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t item = 0; item < batch * heads * blocks; ++item) {
      Scratch::Thread& own = work.threads[static_cast<size_t>(omp_get_thread_num())];
      const int64_t block = blocks - 1 - item / (batch * heads), b = item % (batch * heads) / heads, h = item % heads;
      const int64_t first = block * kForwardRows, count = std::min(kForwardRows, rows - first);
      const Visible* visible = &work.visible[static_cast<size_t>(b * rows + first)];
      bool any = false;
      for (int64_t r = 0; r < count; ++r) any = any || visible[r].begin < visible[r].end;
      if (!any) continue;
      A* block_q = own.q.get<A>(kForwardRows * depth);
      A* out = own.out.get<A>(kForwardRows * padded);
      A* numbers = own.numbers.get<A>(2 * kForwardRows);
      A* scores = own.scores.get<A>(kForwardRows * kForwardKeys);
      kernel.pack_rows(block_q, element_at<T>(q, b, first, h), q.stride(1), count, width);
      A* maximum = element_at<A>(state.maximum, b, h, first);
      A* sum = element_at<A>(state.sum, b, h, first);
      A* accumulator = element_at<A>(state.accumulator, b, first, h);
      const int64_t stride = state.accumulator.stride(1);
      for (int64_t r = 0; r < count; ++r) {
        const bool begun = sum[r] != 0;  // else the accumulator is uninitialised
        if (begun) std::copy(accumulator + r * stride, accumulator + r * stride + width, out + r * padded);
        std::fill(out + r * padded + (begun ? width : 0), out + (r + 1) * padded, A(0));
      }
      std::copy(maximum, maximum + count, numbers);
      std::copy(sum, sum + count, numbers + kForwardRows);
      const int64_t bg = b * kv_heads + h / group;
      kernel.attention_forward({count, width, static_cast<A>(scale), block_q, packed_k + bg * panels * panel_words,
                                packed_v + bg * panels * lane_words, visible, out, numbers, numbers + kForwardRows,
                                scores});
      std::copy(numbers, numbers + count, maximum);
      std::copy(numbers + kForwardRows, numbers + kForwardRows + count, sum);
      for (int64_t r = 0; r < count; ++r)
        std::copy(out + r * padded, out + r * padded + width, accumulator + r * stride);
    }
  });
  if (ends.out) attention_finish(ends.out, ends.lse, state);
}

// The accumulator is left uninitialised: a sum of 0 marks rows that saw no key.
void CpuBackend::attention_begin(const AttentionState& state, Tensor sinks) {
  if (sinks) return ReferenceBackend::attention_begin(state, sinks);
  dispatch_floating(state.maximum.dtype(),
                    [&](auto zero) { fill(state.maximum, -std::numeric_limits<decltype(zero)>::infinity()); });
  fill(state.sum, 0);
}

void CpuBackend::attention_finish(Tensor out, Tensor lse, const AttentionState& state) {
  dispatch_floating(out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const int64_t batch = out.size(0), rows = out.size(1), heads = out.size(2), width = out.size(3);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_for(out.count()))
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t h = 0; h < heads; ++h) {
          const A sum = *element_at<A>(state.sum, b, h, i), maximum = *element_at<A>(state.maximum, b, h, i);
          *element_at<A>(lse, b, h, i) = sum == 0 ? -std::numeric_limits<A>::infinity() : maximum + std::log(sum);
          T* to = element_at<T>(out, b, i, h);
          if (sum == 0)
            std::fill(to, to + width, T(A(0)));
          else
            kernel.round_scaled(to, element_at<A>(state.accumulator, b, i, h), 1 / sum, width);
        }
  });
}

void CpuBackend::attention_delta(Tensor delta, Tensor dout, Tensor out) {
  dispatch_floating(out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const Kernels<T>& kernel = kernels<T>(instruction_set_);
    const int64_t batch = out.size(0), rows = out.size(1), heads = out.size(2), width = out.size(3);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads_for(out.count()))
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t h = 0; h < heads; ++h)
          *element_at<A>(delta, b, h, i) =
              kernel.row_dot(element_at<T>(dout, b, i, h), element_at<T>(out, b, i, h), width);
  });
}

}  // namespace carillon
