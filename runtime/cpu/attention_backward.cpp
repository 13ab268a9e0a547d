// Backward pass of blocked attention. A thread takes a block of keys and walks through the blocks of queries that see
// it. The gradients of the keys and values stay with the thread; the gradients of the queries are shared by all
// threads.
//
// They are deterministic without a copy per thread: blocks of keys are handed out in increasing order and add
// alternately to one of two sums, and a block may add to a block of queries only after its predecessor in the same sum
// has. Two threads rarely wait for each other; more threads follow one another through the queries, one block behind.
// Sums are formed in the order of the keys, whatever the number of threads.
//
// Every block of keys passes over the queries' operands and sums, 1 KiB per query and pass. A long sequence is
// therefore processed in pieces of as many queries as the cache holds; each piece meets all its keys before the next.
#include <omp.h>

#include <algorithm>
#include <limits>

#include "runtime/attention_ends.h"
#include "runtime/cpu/attention_scratch.h"

namespace carillon {

using namespace cpu;

namespace {

constexpr int64_t kSums = Progress::kSums;
static_assert(kSums == 2, "run_group adds two");

// One call of attention_backward, typed.
template <class T>
struct Backward {
  using A = accumulate_t<T>;
  const Kernels<T>& kernel;
  Tensor dq, dk, dv, q, k, v, dout, lse, delta;
  const Visible* visible;  // [b][row]
  A scale;
  int64_t rows = q.size(1), keys = k.size(1), width = q.size(3), group = q.size(2) / std::max<int64_t>(k.size(2), 1);
  int64_t padded = padded_width(width), all_keys = round_to_panel(keys), depth = kernel.words(width);
  int64_t key_blocks = (keys + kBackwardKeys - 1) / kBackwardKeys;
  int64_t piece = std::min(backward_queries_at_once(padded, kernel.depth, sizeof(A)), rows);  // rows of a piece
  int64_t piece_panels = round_to_panel(piece);

  // The packed operands of a head's keys and of a piece of its queries. The sizes never change within a call, so
  // constructing it again returns the same memory.
  template <class Head>
  struct Packed {
    Packed(Head& head, const Backward& b)
        : k_rows(head.k_rows.template get<A>(b.keys * b.depth)),
          v_rows(head.v_rows.template get<A>(b.keys * b.depth)),
          k_lanes(head.k_lanes.template get<A>(b.all_keys / b.kernel.depth * b.padded)),
          q_panels(head.q_panels.template get<A>(b.piece_panels * b.depth)),
          q_lanes(head.q_lanes.template get<A>(b.piece_panels / b.kernel.depth * b.padded)),
          dout_panels(head.dout_panels.template get<A>(b.piece_panels * b.depth)),
          dout_lanes(head.dout_lanes.template get<A>(b.piece_panels / b.kernel.depth * b.padded)),
          lse(head.rows.template get<A>(2 * b.piece_panels)),
          delta(lse + b.piece_panels),
          dq(head.dq.template get<A>(kSums * b.piece * b.padded)) {}
    A *k_rows, *v_rows, *k_lanes, *q_panels, *q_lanes, *dout_panels, *dout_lanes, *lse, *delta;
    A* dq;  // [kSums][piece][padded]
  };

  template <class P>
  void pack_keys(const P& to, int64_t b, int64_t g, int threads) const {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < keys; first += kPanel) {
      const int64_t count = std::min(kPanel, keys - first);
      const T* from_k = element_at<T>(k, b, first, g);
      kernel.pack_rows(to.k_rows + first * depth, from_k, k.stride(1), count, width);
      kernel.pack_lanes(to.k_lanes + first / kernel.depth * padded, from_k, k.stride(1), count, width);
      kernel.pack_rows(to.v_rows + first * depth, element_at<T>(v, b, first, g), v.stride(1), count, width);
    }
  }

  // Packs rows [begin, end) of head h; in the packed piece they count from 0.
  template <class P>
  void pack_queries(const P& to, int64_t b, int64_t h, int64_t begin, int64_t end, int threads) const {
    constexpr A kInfinity = std::numeric_limits<A>::infinity();
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < end - begin; first += kPanel) {
      const int64_t row = begin + first, count = std::min(kPanel, end - row);
      const T* from_q = element_at<T>(q, b, row, h);
      const T* from_dout = element_at<T>(dout, b, row, h);
      kernel.pack_panel(to.q_panels + first * depth, from_q, q.stride(1), count, width);
      kernel.pack_lanes(to.q_lanes + first / kernel.depth * padded, from_q, q.stride(1), count, width);
      kernel.pack_panel(to.dout_panels + first * depth, from_dout, dout.stride(1), count, width);
      kernel.pack_lanes(to.dout_lanes + first / kernel.depth * padded, from_dout, dout.stride(1), count, width);
      for (int64_t i = 0; i < kPanel; ++i) {
        const A value = i < count ? *element_at<A>(lse, b, h, row + i) : -kInfinity;
        to.lse[first + i] = value == -kInfinity ? kInfinity : value * A(1.4426950408889634);
        to.delta[first + i] = i < count ? *element_at<A>(delta, b, h, row + i) : A(0);
      }
      for (int64_t sum = 0; sum < kSums; ++sum) {
        A* dq_rows = to.dq + (sum * piece + first) * padded;
        std::fill(dq_rows, dq_rows + count * padded, A(0));
      }
    }
  }

  // Computes one block of keys against the queries of a piece, rows [begin, end).
  template <class P, class Thread>
  void run_keys(const P& packed, Thread& own, Progress& progress, int64_t b, int64_t g, int64_t begin, int64_t end,
                int64_t block) const {
    A* block_dk = own.dk.template get<A>(kBackwardKeys * padded);
    A* block_dv = own.dv.template get<A>(kBackwardKeys * padded);
    void* p = own.p.template get<A>(kBackwardKeys * kBackwardQueries);
    void* ds = own.ds.template get<A>(kBackwardKeys * kBackwardQueries);
    void* ds_across = own.ds_across.template get<A>(kBackwardKeys * kBackwardQueries);
    const Visible* mine = visible + b * rows + begin;
    const int64_t key = block * kBackwardKeys, count = std::min(kBackwardKeys, keys - key);
    std::fill(block_dk, block_dk + count * padded, A(0));
    std::fill(block_dv, block_dv + count * padded, A(0));
    bool any = false;
    for (int64_t row = 0; row < end - begin; row += kBackwardQueries) {
      const int64_t queries = std::min(kBackwardQueries, end - begin - row), at = row / kernel.depth * padded;
      progress.wait(block, row / kBackwardQueries);
      // Both ends of the intervals are non-decreasing: the last row sees furthest, the first one begins earliest.
      if (mine[row + queries - 1].end > key && mine[row].begin < key + count) {
        any = true;
        kernel.attention_backward({count,
                                   queries,
                                   width,
                                   scale,
                                   key,
                                   packed.k_rows + key * depth,
                                   packed.v_rows + key * depth,
                                   packed.k_lanes + key / kernel.depth * padded,
                                   packed.q_panels + row * depth,
                                   packed.dout_panels + row * depth,
                                   packed.q_lanes + at,
                                   packed.dout_lanes + at,
                                   packed.lse + row,
                                   packed.delta + row,
                                   mine + row,
                                   block_dk,
                                   block_dv,
                                   packed.dq + (block % kSums * piece + row) * padded,
                                   p,
                                   ds,
                                   ds_across});
      }
      progress.pass(block, row / kBackwardQueries);
    }
    if (!any) return;
    for (int64_t j = 0; j < count; ++j) {
      kernel.add_scaled(element_at<A>(dk, b, key + j, g), block_dk + j * padded, nullptr, scale, width);
      kernel.add_scaled(element_at<A>(dv, b, key + j, g), block_dv + j * padded, nullptr, A(1), width);
    }
  }

  // Computes all query heads of key/value head g one after another, with `threads` threads whose scratch begins at
  // `own`.
  template <class Head, class Thread>
  void run_group(Head& head, Thread* own, Progress& progress, int64_t b, int64_t g, int threads) const {
    const Packed<Head> packed(head, *this);
    pack_keys(packed, b, g, threads);
    for (int64_t h = g * group; h < (g + 1) * group; ++h)
      for (int64_t row = 0; row < rows; row += piece)
        run_queries(packed, own, progress, b, g, h, row, std::min(row + piece, rows), threads);
  }

  template <class P, class Thread>
  void run_queries(const P& packed, Thread* own, Progress& progress, int64_t b, int64_t g, int64_t h, int64_t begin,
                   int64_t end, int threads) const {
    const Visible* mine = visible + b * rows;
    const int64_t first_block = mine[begin].begin / kBackwardKeys,
                  blocks = std::min((mine[end - 1].end + kBackwardKeys - 1) / kBackwardKeys, key_blocks);
    if (first_block >= blocks) return;
    pack_queries(packed, b, h, begin, end, threads);
    progress.reset(first_block, blocks);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      Thread& scratch = own[threads > 1 ? omp_get_thread_num() : 0];
      for (int64_t block = progress.take(); block < blocks; block = progress.take())
        run_keys(packed, scratch, progress, b, g, begin, end, block);
    }
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < end - begin; ++i)
      kernel.add_scaled(element_at<A>(dq, b, begin + i, h), packed.dq + i * padded, packed.dq + (piece + i) * padded,
                        scale, width);
  }
};

}  // namespace

void CpuBackend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                    Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                                    const AttentionGradientEnds& ends) {
  begin_attention_gradients(*this, dq, dk, dv, dout, out, delta, ends);
  if (q.empty() || k.empty()) return end_attention_gradients(*this, dq, dk, dv, ends);
  CHECK(scale > 0, "scores are scaled by a positive number", scale);
  Scratch& work = scratch();
  find_visible(mask, threads_, work.visible);
  dispatch_floating(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Backward<T> backward{
        kernels<T>(instruction_set_),       dq, dk, dv, q, k, v, dout, lse, delta, work.visible.data(),
        static_cast<accumulate_t<T>>(scale)};
    const int64_t groups = q.size(0) * k.size(2), kv_heads = k.size(2);
    const int threads = threads_for_products(q.count() * k.size(1));
    // The first `whole` heads get one thread each, the others share all threads; both give the same order of sums.
    const int64_t whole = backward.key_blocks <= kBlocksOfOneThread ? groups / threads * threads : 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (whole > 0)
    for (int64_t item = 0; item < whole; ++item) {
      const size_t thread = static_cast<size_t>(omp_get_thread_num());
      backward.run_group(work.heads[thread], &work.threads[thread], work.progress[thread], item / kv_heads,
                         item % kv_heads, 1);
    }
    for (int64_t item = whole; item < groups; ++item)
      backward.run_group(work.heads[0], work.threads.data(), work.progress[0], item / kv_heads, item % kv_heads,
                         threads);
  });
  end_attention_gradients(*this, dq, dk, dv, ends);
}

}  // namespace carillon
