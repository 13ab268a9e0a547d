// Ring attention against attention computed here in double precision (A1, A4, A5), and its traffic (A16).
#include "parallel/context/ring_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "parallel/injected_fault.h"
#include "parallel/transport/thread_communicator.h"
#include "runtime/rng.h"
#include "tests/support/device_memory.h"
#include "tests/support/host_tensors.h"

namespace carillon::testing {
namespace {

struct Case {
  int64_t length;
  int64_t heads, kv_heads, head_dim;
  LayoutKind kind = LayoutKind::kZigzag;
  std::vector<int64_t> documents = {};  // lengths; empty: one document
  int64_t window = 0;                   // 0: none
};

// Whole tensors [T, heads, HD], in double.
struct Whole {
  std::vector<double> q, k, v, dout, out, dq, dk, dv;
  std::vector<int64_t> first;
};

double number(uint64_t stream, size_t index) { return random_normal(11, stream, index); }

Whole inputs(const Case& c) {
  Whole w;
  const size_t rows = static_cast<size_t>(c.length * c.head_dim);
  for (size_t i = 0; i < rows * c.heads; ++i) w.q.push_back(number(1, i)), w.dout.push_back(number(2, i));
  for (size_t i = 0; i < rows * c.kv_heads; ++i) w.k.push_back(number(3, i)), w.v.push_back(number(4, i));
  int64_t begin = 0;
  for (const int64_t length : c.documents.empty() ? std::vector<int64_t>{c.length} : c.documents) {
    for (int64_t i = 0; i < length; ++i)
      w.first.push_back(c.window > 0 ? std::max(begin, begin + i - c.window + 1) : begin);
    begin += length;
  }
  return w;
}

// softmax(q·kᵀ·scale) over the visible keys, and its gradients, one row after another.
void dense(const Case& c, Whole& w) {
  const int64_t d = c.head_dim, group = c.heads / c.kv_heads;
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  w.out.assign(w.q.size(), 0), w.dq.assign(w.q.size(), 0), w.dk.assign(w.k.size(), 0), w.dv.assign(w.v.size(), 0);
  std::vector<double> p(static_cast<size_t>(c.length)), dp(p.size());
  for (int64_t h = 0; h < c.heads; ++h)
    for (int64_t i = 0; i < c.length; ++i) {
      const double* q = &w.q[(i * c.heads + h) * d];
      const double* dout = &w.dout[(i * c.heads + h) * d];
      const auto key = [&](std::vector<double>& x, int64_t j) { return &x[(j * c.kv_heads + h / group) * d]; };
      double largest = -INFINITY, sum = 0, mean = 0;
      for (int64_t j = w.first[i]; j <= i; ++j) {
        p[j] = 0;
        for (int64_t e = 0; e < d; ++e) p[j] += q[e] * key(w.k, j)[e] * scale;
        largest = std::max(largest, p[j]);
      }
      for (int64_t j = w.first[i]; j <= i; ++j) sum += p[j] = std::exp(p[j] - largest);
      for (int64_t j = w.first[i]; j <= i; ++j) {
        p[j] /= sum;
        dp[j] = 0;
        for (int64_t e = 0; e < d; ++e) {
          w.out[(i * c.heads + h) * d + e] += p[j] * key(w.v, j)[e];
          dp[j] += dout[e] * key(w.v, j)[e];
        }
        mean += p[j] * dp[j];
      }
      for (int64_t j = w.first[i]; j <= i; ++j) {
        const double ds = p[j] * (dp[j] - mean) * scale;
        for (int64_t e = 0; e < d; ++e) {
          w.dq[(i * c.heads + h) * d + e] += ds * key(w.k, j)[e];
          key(w.dk, j)[e] += ds * q[e];
          key(w.dv, j)[e] += p[j] * dout[e];
        }
      }
    }
}

struct Traffics {
  int64_t forward = 0, backward = 0, forward_calls = 0, backward_calls = 0;  // bytes of all ranks, calls of the busiest
  int64_t forward_outer = 0, backward_outer = 0;                             // the bytes of these that go between nodes
};

// Forwards every call, and counts what it sends to another node of `inner` ranks.
class NodeCounter : public Communicator {
 public:
  NodeCounter(std::unique_ptr<Communicator> all, int inner) : all_(std::move(all)), inner_(inner) {}
  int rank() const override { return all_->rank(); }
  int size() const override { return all_->size(); }
  const std::string& name() const override { return all_->name(); }
  void all_reduce(Tensor x, Reduction reduction) override { all_->all_reduce(x, reduction); }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override { all_->all_gather(y, x, counts); }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    all_->reduce_scatter(y, x, counts);
  }
  void broadcast(Tensor x, int root) override { all_->broadcast(x, root); }
  void barrier() override { all_->barrier(); }
  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind kind) override {
    if (send && to >= 0) {
      EXPECT_NE(to, rank()) << "what stays on a rank is not exchanged";
      count_exchange(static_cast<int64_t>(send.bytes()), kind);
      if (to / inner_ != rank() / inner_) {
        outer_bytes += static_cast<int64_t>(send.bytes());
        EXPECT_TRUE(to % inner_ == rank() % inner_) << "blocks change nodes between namesakes only";
      }
    }
    return all_->start_exchange(send, to, receive, from, kind);
  }
  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    return all_->split(color, key, std::move(name));
  }
  int64_t outer_bytes = 0;

 private:
  std::unique_ptr<Communicator> all_;
  int inner_;
};

// The same on a ring of `ranks`, made of inner rings of `inner` (0: one ring); returns whole tensors.
template <class T>
Whole ring(const Case& c, const Whole& in, int ranks, Traffics* traffics = nullptr, const char* device = "cpu",
           int inner = 0) {
  Whole result;
  result.out.resize(in.q.size()), result.dq.resize(in.q.size());
  result.dk.resize(in.k.size()), result.dv.resize(in.k.size());
  std::mutex mutex;
  run_ranks(ranks, [&](std::unique_ptr<Communicator> world) {
    using A = accumulate_t<T>;
    const auto backend = make_test_backend({.device = device, .threads = 1, .device_index = world->rank()});
    const auto cp = std::make_unique<NodeCounter>(for_device(*backend, std::move(world)), inner == 0 ? ranks : inner);
    DeviceMemory memory(*backend);
    const SequenceLayout layout(c.kind, c.length, ranks, 1);
    const RingAttention::Shape shape{1, c.heads, c.kv_heads, c.head_dim, dtype_of<T>::value, true, inner};
    Arena measuring;
    RingAttention(*backend, *cp, layout, shape, measuring).allocate_work(measuring);
    Arena arena(backend->allocate(measuring.peak()));
    RingAttention attention(*backend, *cp, layout, shape, arena);
    attention.allocate_work(arena);

    const int64_t local = layout.local();
    std::vector<std::vector<T>> parts;
    parts.reserve(8);
    const auto local_part = [&](const std::vector<double>& whole, int64_t heads) {
      std::vector<T> part(static_cast<size_t>(local * heads * c.head_dim));
      const int64_t row = heads * c.head_dim;
      for (int64_t i = 0; i < local; ++i)
        for (int64_t e = 0; e < row; ++e) {
          const int64_t index = layout.index_of(cp->rank(), i);
          // Padding rows hold garbage on purpose: they must never be read.
          part[i * row + e] = T(index >= c.length ? 1e3 : whole.empty() ? 0.0 : whole[index * row + e]);
        }
      parts.push_back(std::move(part));
      return memory.give(Tensor::of(parts.back(), {1, local, heads, c.head_dim}));
    };
    const Tensor q = local_part(in.q, c.heads), k = local_part(in.k, c.kv_heads), v = local_part(in.v, c.kv_heads);
    const Tensor dout = local_part(in.dout, c.heads), out = local_part({}, c.heads), dq = local_part({}, c.heads);
    const Tensor dk = local_part({}, c.kv_heads), dv = local_part({}, c.kv_heads);
    std::vector<A> lse(static_cast<size_t>(local * c.heads));
    std::vector<int64_t> first(static_cast<size_t>(local));
    for (int64_t i = 0; i < local; ++i) {
      const int64_t index = layout.index_of(cp->rank(), i);
      first[i] = index < c.length ? in.first[index] : layout.padded();
    }
    attention.set_mask(0, memory.give(Tensor::of(first, {1, local})));
    const Tensor all_lse = memory.give(Tensor::of(lse, {1, c.heads, local}));
    const double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    cp->reset_traffic();
    attention.forward(out, all_lse, q, k, v, {scale});
    const Traffic forward = cp->traffic();
    const int64_t forward_outer = std::exchange(cp->outer_bytes, 0);
    cp->reset_traffic();
    attention.backward(dq, dk, dv, dout, q, k, v, out, all_lse, {scale});
    const Traffic backward = cp->traffic();

    const std::lock_guard lock(mutex);
    if (traffics) {
      traffics->forward += forward.total_bytes(), traffics->backward += backward.total_bytes();
      traffics->forward_outer += forward_outer, traffics->backward_outer += cp->outer_bytes;
      traffics->forward_calls = std::max(traffics->forward_calls, forward.shift.calls + forward.message.calls);
      traffics->backward_calls = std::max(traffics->backward_calls, backward.shift.calls + backward.message.calls);
    }
    const auto home = [&](std::vector<double>& whole, Tensor part) {
      const std::vector<double> values = download_as_double(*backend, part);
      const int64_t row = part.size(2) * part.size(3);
      for (int64_t i = 0; i < local; ++i)
        for (int64_t e = 0; e < row; ++e) {
          const int64_t index = layout.index_of(cp->rank(), i);
          const double value = values[static_cast<size_t>(i * row + e)];
          if (index < c.length)
            whole[index * row + e] = value;
          else
            EXPECT_EQ(value, 0) << "a padding row has a gradient or an output";
        }
    };
    home(result.out, out), home(result.dq, dq), home(result.dk, dk), home(result.dv, dv);
  });
  return result;
}

double relative(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  EXPECT_TRUE(std::isfinite(difference));
  return std::sqrt(difference) / std::max(std::sqrt(size), 1.0);  // documents of one token have no gradient
}
bool near(const std::vector<double>& a, const std::vector<double>& b) {  // false for a NaN
  return std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) { return std::abs(x - y) < 1e-9; });
}
double worst(const Whole& a, const Whole& b) {
  return std::max({relative(a.out, b.out), relative(a.dq, b.dq), relative(a.dk, b.dk), relative(a.dv, b.dv)});
}

void expect_equal_to_dense(const Case& c, const std::vector<int>& worlds, bool all_types, const char* device = "cpu") {
  Whole expected = inputs(c);
  dense(c, expected);
  const double bfloat16_bound = c.heads == c.kv_heads ? 2.5e-2 : 3.5e-2;
  double bfloat16_alone = 0;
  for (const int ranks : worlds) {
    if (is_cuda(device) && !enough_devices(ranks)) continue;
    SCOPED_TRACE(fmt::format("T {} heads {}/{} of {} on {} ranks, {}", c.length, c.heads, c.kv_heads, c.head_dim, ranks,
                             c.kind == LayoutKind::kZigzag ? "zigzag" : "contiguous"));
    EXPECT_LT(worst(ring<double>(c, expected, ranks, nullptr, device), expected), 1e-10);
    if (!all_types) continue;
    EXPECT_LT(worst(ring<float>(c, expected, ranks), expected), 2e-6);
    const double error = worst(ring<bfloat16>(c, expected, ranks), expected);
    if (ranks == 1) bfloat16_alone = error;
    EXPECT_LT(error, bfloat16_bound);
    EXPECT_LT(error, 2 * bfloat16_alone);
  }
}

TEST(RingAttention, EqualsDenseAttention) {
  const std::vector<int> worlds{1, 2, 3, 4, 5, 8};
  expect_equal_to_dense({256, 8, 8, 64}, worlds, true);
  expect_equal_to_dense({256, 8, 2, 64}, worlds, true);
  expect_equal_to_dense({256, 12, 2, 128}, {1, 3}, false);
  expect_equal_to_dense({256, 5, 5, 128}, {1, 5}, false);
  expect_equal_to_dense({1000, 4, 2, 32}, worlds, false);
}

TEST(RingAttention, ContiguousLayoutEqualsDenseAttention) {
  expect_equal_to_dense({200, 4, 2, 16, LayoutKind::kContiguous}, {1, 2, 3, 4}, true);
}

TEST(RingAttention, DocumentsAndWindows) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous}) {
    expect_equal_to_dense({59, 4, 2, 8, kind, {17, 31, 11}}, {1, 2, 3, 4}, false);
    expect_equal_to_dense({64, 4, 2, 8, kind, std::vector<int64_t>(64, 1)}, {1, 2, 4}, false);
    expect_equal_to_dense({61, 4, 2, 8, kind, {}, 7}, {1, 2, 3, 4, 8}, false);
    expect_equal_to_dense({90, 4, 4, 8, kind, {50, 40}, 13}, {1, 2, 4, 5}, false);
  }
  expect_equal_to_dense({890, 4, 2, 16, LayoutKind::kZigzag, {509, 253, 128}}, {1, 2, 4}, false);
}

TEST(RingAttention, OnADeviceWhoseMemoryTheHostCannotRead) {
  const std::vector<int> worlds{1, 2, 4};
  expect_equal_to_dense({96, 4, 2, 8}, worlds, false, "isolated");
  expect_equal_to_dense({59, 4, 2, 8, LayoutKind::kContiguous, {17, 31, 11}}, worlds, false, "isolated");
  expect_equal_to_dense({61, 4, 2, 8, LayoutKind::kZigzag, {}, 7}, worlds, false, "isolated-cpu");
}

// On CUDA, over NCCL: real, or emulated (tests/cuda_emulation) with streams that guarantee only the declared order.
class RingAttentionOnCuda : public ::testing::Test {
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  }
};

TEST_F(RingAttentionOnCuda, EqualsDenseAttention) {
  const std::vector<int> worlds{1, 2, 4};
  expect_equal_to_dense({64, 4, 2, 8}, worlds, false, "cuda");
  expect_equal_to_dense({59, 4, 2, 8, LayoutKind::kContiguous, {17, 31, 11}}, worlds, false, "cuda");
  expect_equal_to_dense({61, 4, 2, 8, LayoutKind::kZigzag, {}, 7}, worlds, false, "cuda");
}

// A negative control: without the queue's wait for an exchange, blocks are read before they have arrived.
TEST_F(RingAttentionOnCuda, AWaitLeftOutIsNoticed) {
  const Case c{64, 4, 2, 8};
  Whole expected = inputs(c);
  dense(c, expected);
  const ScopedFault injected(InjectedFault::kExchangeNotAwaited);
  const Whole got = ring<double>(c, expected, 4, nullptr, "cuda");
  EXPECT_FALSE(near(got.out, expected.out) && near(got.dq, expected.dq) && near(got.dk, expected.dk) &&
               near(got.dv, expected.dv));
}

TEST(RingAttention, AnyPadding) {
  for (int64_t length = 17; length <= 32; ++length) expect_equal_to_dense({length, 2, 1, 8}, {2, 4, 8}, false);
}

// Two levels: W_in, W_out. The degenerate ones are equivalent to the flat ring.
constexpr std::pair<int, int> kTwoLevels[] = {{1, 4}, {2, 2}, {4, 1}, {2, 4}, {4, 2}, {3, 2}};

void expect_two_levels_equal(const Case& c, const char* device = "cpu", bool all_kinds = true) {
  Whole expected = inputs(c);
  dense(c, expected);
  for (const auto& [inner, nodes] : kTwoLevels) {
    const int ranks = inner * nodes;
    if (c.length < 2 * ranks || (!all_kinds && (ranks != 4 || inner != 2))) continue;
    if (is_cuda(device) && !enough_devices(ranks)) continue;
    SCOPED_TRACE(fmt::format("T {} heads {}/{} of {} on {} nodes of {} ranks, {}", c.length, c.heads, c.kv_heads,
                             c.head_dim, nodes, inner, c.kind == LayoutKind::kZigzag ? "zigzag" : "contiguous"));
    const Whole two = ring<double>(c, expected, ranks, nullptr, device, inner);
    EXPECT_LT(worst(two, expected), 1e-10);
    EXPECT_LT(worst(two, ring<double>(c, expected, ranks, nullptr, device)), 1e-10);
  }
}

TEST(TwoLevelRing, EqualsTheFlatOne) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous}) {
    expect_two_levels_equal({128, 4, 4, 16, kind});
    expect_two_levels_equal({128, 6, 2, 16, kind});
    expect_two_levels_equal({59, 4, 2, 8, kind, {17, 31, 11}});
    expect_two_levels_equal({64, 4, 2, 8, kind, std::vector<int64_t>(64, 1)});
    expect_two_levels_equal({61, 4, 2, 8, kind, {}, 7});
    expect_two_levels_equal({90, 4, 4, 8, kind, {50, 40}, 13});
  }
  for (int64_t length = 17; length <= 32; ++length) expect_two_levels_equal({length, 2, 1, 8});
}

TEST(TwoLevelRing, OnADeviceWhoseMemoryTheHostCannotRead) {
  expect_two_levels_equal({96, 4, 2, 8}, "isolated", false);
  expect_two_levels_equal({61, 4, 2, 8, LayoutKind::kContiguous, {}, 7}, "isolated", false);
}

TEST_F(RingAttentionOnCuda, TwoLevelsEqualDenseAttention) {
  expect_two_levels_equal({64, 4, 2, 8}, "cuda", false);
  expect_two_levels_equal({59, 4, 2, 8, LayoutKind::kContiguous, {17, 31, 11}}, "cuda", false);
}

// The same bits each time, with any delay of the exchanges.
TEST(TwoLevelRing, IsTheSameBitsInEveryRun) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous})
    for (const auto& [inner, nodes] : kTwoLevels) {
      const Case c{90, 4, 2, 8, kind, {50, 40}};
      const Whole in = inputs(c), once = ring<float>(c, in, inner * nodes, nullptr, "cpu", inner);
      const ScopedExchangeDelay delay(300);
      for (int repeat = 0; repeat < 2; ++repeat) {
        const Whole again = ring<float>(c, in, inner * nodes, nullptr, "cpu", inner);
        EXPECT_TRUE(again.out == once.out && again.dq == once.dq && again.dk == once.dk && again.dv == once.dv);
      }
    }
}

// Degenerate two-level rings equal the flat ring hop by hop: the same sums in the same order.
TEST(TwoLevelRing, OfOneNodeIsTheFlatRing) {
  const Case c{90, 4, 2, 8, LayoutKind::kZigzag, {50, 40}};
  const Whole in = inputs(c), flat = ring<float>(c, in, 4);
  for (const int inner : {1, 4}) {
    const Whole two = ring<float>(c, in, 4, nullptr, "cpu", inner);
    EXPECT_TRUE(two.out == flat.out && two.dq == flat.dq) << inner;
    EXPECT_TRUE(two.dk == flat.dk && two.dv == flat.dv) << inner;
  }
}

// A negative control: without the gradients that return from other nodes, the gradients of keys and values are wrong,
// and nothing else.
TEST(TwoLevelRing, AnOuterGradientHopLeftOutIsNoticed) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous}) {
    const Case c{64, 4, 2, 8, kind};
    Whole expected = inputs(c);
    dense(c, expected);
    const ScopedFault injected(InjectedFault::kRingDropsOuterGradientHop);
    const Whole got = ring<double>(c, expected, 4, nullptr, "cpu", 2);
    EXPECT_TRUE(near(got.out, expected.out) && near(got.dq, expected.dq));
    EXPECT_GT(std::min(relative(got.dk, expected.dk), relative(got.dv, expected.dv)), 1e-3);
  }
}

// Between nodes, hops of W·(O-1) blocks less a quarter; all others stay within a node. Calls: the hops of the inner
// rings, and the pieces between nodes.
TEST(TwoLevelRing, TrafficIsTheFormulasByLink) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous})
    for (const auto& [inner, nodes] : kTwoLevels) {
      const int ranks = inner * nodes;
      SCOPED_TRACE(
          fmt::format("{} nodes of {}, {}", nodes, inner, kind == LayoutKind::kZigzag ? "zigzag" : "contiguous"));
      const Case c{64 * ranks, 4, 2, 16, kind};
      Traffics traffics;
      ring<float>(c, inputs(c), ranks, &traffics, "cpu", inner);
      const SequenceLayout layout(kind, c.length, ranks, 1);
      const RingAttention::Shape shape{1, c.heads, c.kv_heads, c.head_dim, DType::kFloat32, true, inner};
      const RingSchedule::Wire forward = RingAttention::forward_wire(layout, shape);
      const RingSchedule::Wire backward = RingAttention::backward_wire(layout, shape);
      EXPECT_EQ(traffics.forward, forward.all());
      EXPECT_EQ(traffics.forward_outer, forward.outer);
      EXPECT_EQ(traffics.backward, backward.all());
      EXPECT_EQ(traffics.backward_outer, backward.outer);
      if (kind == LayoutKind::kZigzag) {
        EXPECT_EQ(traffics.forward_calls, nodes * (inner - 1) + (nodes - 1) * inner);
        const int64_t half_bytes = 2 * layout.half() * c.kv_heads * c.head_dim * 4;
        EXPECT_EQ(traffics.forward, 3 * ranks * (ranks - 1) / 2 * half_bytes) << "as one ring";
        EXPECT_EQ(traffics.forward_outer, 3 * ranks * (nodes - 1) / 2 * half_bytes);
      }
    }
}

// With a window that reaches no further than the previous rank, most traffic of both levels disappears.
TEST(TwoLevelRing, WindowsSendLess) {
  Case c{256, 2, 1, 8, LayoutKind::kContiguous};
  Traffics plain, windowed;
  ring<float>(c, inputs(c), 8, &plain, "cpu", 4);
  c.window = 8;
  ring<float>(c, inputs(c), 8, &windowed, "cpu", 4);
  EXPECT_LT(windowed.forward, plain.forward / 2);
  EXPECT_LT(windowed.forward_outer, plain.forward_outer / 2);
  EXPECT_GT(windowed.forward_outer, 0);
}

// W-1 hops forward, without late halves that no rank needs; at most 2W-1 exchanges backward.
TEST(RingAttention, TrafficIsTheFormulas) {
  for (const LayoutKind kind : {LayoutKind::kZigzag, LayoutKind::kContiguous})
    for (const int ranks : {2, 3, 4, 8}) {
      const Case c{64 * ranks, 4, 2, 16, kind};
      const Whole in = inputs(c);
      Traffics traffics;
      ring<float>(c, in, ranks, &traffics);
      const SequenceLayout layout(kind, c.length, ranks, 1);
      const RingAttention::Shape shape{1, c.heads, c.kv_heads, c.head_dim, DType::kFloat32};
      EXPECT_EQ(traffics.forward, RingAttention::forward_bytes(layout, shape)) << ranks;
      EXPECT_EQ(traffics.backward, RingAttention::backward_bytes(layout, shape)) << ranks;
      EXPECT_EQ(traffics.forward_calls, ranks - 1);
      if (kind == LayoutKind::kZigzag) {
        // Without the trim every block of 2 halves would go all the way round: W · (W-1) · 2 halves. A quarter is
        // saved.
        const int64_t half_bytes = 2 * layout.half() * c.kv_heads * c.head_dim * 4;
        EXPECT_EQ(traffics.forward * 4, 3 * (2 * half_bytes * ranks * (ranks - 1)));
      }
    }
}

// In a contiguous layout a short window needs only the late half of the previous rank, so early halves are not sent.
TEST(RingAttention, WindowsSendLess) {
  Case c{256, 2, 1, 8, LayoutKind::kContiguous};
  Traffics plain, windowed;
  ring<float>(c, inputs(c), 4, &plain);
  c.window = 8;
  ring<float>(c, inputs(c), 4, &windowed);
  EXPECT_EQ(2 * windowed.forward, plain.forward);
}

}  // namespace
}  // namespace carillon::testing
