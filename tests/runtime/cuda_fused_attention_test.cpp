// A second attention engine (runtime/cuda/attention/attention_fused.cpp), emulated: both passes over the blocks of a
// ring, whole and cut (CARILLON_ATTENTION_EDGE), against the reference; the cases it does not take; its mistakes; and
// every reason to refuse it at the start.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "runtime/attention_pieces.h"
#include "runtime/backend.h"
#include "tests/support/device_memory.h"
#include "tests/support/index_runs.h"
#include "tests/support/random_tensor.h"

namespace carillon::testing {
namespace {

using Kind = MaskShape::Kind;
struct Block {
  std::vector<int64_t> keys;
  MaskShape shape;
};
struct Case {
  const char* name;
  int64_t batch, heads, kv_heads, head_size;
  std::vector<int64_t> query;
  std::vector<Block> blocks;  // in the order of the calls
  int64_t padding = 0;        // rows at the end that attend to nothing
  int64_t document = 0;       // start of a second document, one row later in every second sequence; 0: none
  int64_t window = 0;         // number of tokens that a row sees; 0: all
};

constexpr int64_t kChunk = 70;  // not a multiple of a tile
std::vector<int64_t> chunk(int64_t which) { return run(which * kChunk, (which + 1) * kChunk); }
std::vector<Case> ring_cases() {
  return {
      {"one rank", 2, 4, 2, 64, run(0, 130), {{run(0, 130), {Kind::kCausal}}}},
      {"second of two ranks, zigzag",
       1,
       4,
       1,
       64,
       chunk(1) + chunk(2),
       {{chunk(1) + chunk(2), {Kind::kCausal}}, {chunk(0), {Kind::kFull}}}},
      {"first of two ranks, zigzag",
       2,
       2,
       2,
       128,
       chunk(0) + chunk(3),
       {{chunk(0) + chunk(3), {Kind::kCausal, 0, true}},
        {chunk(1), {Kind::kFull, kChunk, true}},
        {chunk(2), {Kind::kFull, kChunk, true}}},
       5},
      {"first of two ranks, contiguous", 1, 4, 2, 96, chunk(0) + chunk(1), {{chunk(0) + chunk(1), {Kind::kCausal}}}},
  };
}
// Masks that cut their blocks, so that at most pieces of a block are whole.
std::vector<Case> cut_cases() {
  return {
      {"documents", 2, 2, 1, 64, run(0, 130), {{run(0, 130), {}}}, 0, 60},
      {"documents and padding", 1, 4, 2, 128, chunk(1) + chunk(2), {{chunk(1) + chunk(2), {}}, {chunk(0), {}}}, 7, 80},
      {"a window",
       1,
       2,
       2,
       64,
       chunk(0) + chunk(3),
       {{chunk(0) + chunk(3), {}}, {chunk(1), {}}, {chunk(2), {}}},
       0,
       0,
       100},
  };
}

class Problem {
 public:
  explicit Problem(const Case& problem) : c(problem), rows(static_cast<int64_t>(c.query.size())), query(c.query) {
    for (const Block& block : c.blocks) {
      key = key + block.keys;
      cuts.push_back(static_cast<int64_t>(key.size()));
    }
    first.resize(static_cast<size_t>(c.batch * rows));
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t i = 0; i < rows; ++i)
        first[static_cast<size_t>(b * rows + i)] = i >= rows - c.padding ? 1 << 20 : first_of(b, i);
    for (size_t i = 0; i < c.blocks.size(); ++i) {
      shapes.push_back(c.blocks[i].shape);
      pieces.push_back(mask_pieces({query, first, c.blocks[i].keys, c.batch, i == 0}, attention_edge()));
      if (shapes[i].kind == Kind::kIntervals) shapes[i].empty_rows = c.padding > 0;
    }
    const auto keys = static_cast<int64_t>(key.size());
    q = std::make_unique<RandomTensor>(DType::kBFloat16, std::vector<int64_t>{c.batch, rows, c.heads, c.head_size}, 1);
    k = std::make_unique<RandomTensor>(DType::kBFloat16, std::vector<int64_t>{c.batch, keys, c.kv_heads, c.head_size},
                                       2);
    v = std::make_unique<RandomTensor>(DType::kBFloat16, std::vector<int64_t>{c.batch, keys, c.kv_heads, c.head_size},
                                       3);
    dout =
        std::make_unique<RandomTensor>(DType::kBFloat16, std::vector<int64_t>{c.batch, rows, c.heads, c.head_size}, 4);
  }

  struct Result {
    std::vector<double> out, lse, dq, dk, dv;
  };
  // Whether some block that is not whole contains whole pieces.
  bool has_pieces() const {
    for (size_t i = 0; i < pieces.size(); ++i)
      if (shapes[i].kind == Kind::kIntervals && !pieces[i].empty()) return true;
    return false;
  }
  // `knows`: whether the backend is told the shapes of the masks.
  Result on(Backend& backend, bool knows) {
    DeviceMemory memory(backend);
    std::vector<Buffer> buffers;
    const auto fresh = [&](DType type, std::vector<int64_t> shape) {
      int64_t count = 1;
      for (const int64_t size : shape) count *= size;
      buffers.push_back(backend.allocate(static_cast<size_t>(count) * size_of(type)));
      return Tensor(buffers.back().data(), type, shape);
    };
    const std::vector<int64_t> heads{c.batch, rows, c.heads, c.head_size}, statistic{c.batch, c.heads, rows};
    const AttentionState state{fresh(DType::kFloat32, heads), fresh(DType::kFloat32, statistic),
                               fresh(DType::kFloat32, statistic)};
    const Tensor q_ = memory.give(q->tensor()), k_ = memory.give(k->tensor()), v_ = memory.give(v->tensor()),
                 dout_ = memory.give(dout->tensor());
    const Tensor queries = memory.give(Tensor::of(query, {rows})),
                 first_ = memory.give(Tensor::of(first, {c.batch, rows})),
                 key_ = memory.give(Tensor::of(key, {static_cast<int64_t>(key.size())}));
    const Tensor out = fresh(DType::kBFloat16, heads), lse = fresh(DType::kFloat32, statistic);
    const double scale = 1 / std::sqrt(static_cast<double>(c.head_size));
    const auto mask = [&](size_t i) {
      MaskShape shape = shapes[i];
      shape.pieces = pieces[i];
      return AttentionMask{queries, first_, key_.slice(0, from(i), cuts[i]), knows ? shape : MaskShape{}};
    };
    backend.attention_begin(state);
    for (size_t i = 0; i < cuts.size(); ++i)
      backend.attention_forward(state, q_, k_.slice(1, from(i), cuts[i]), v_.slice(1, from(i), cuts[i]), mask(i),
                                scale);
    backend.attention_finish(out, lse, state);
    Result result{download_as_double(backend, out), download_as_double(backend, lse), {}, {}, {}};
    const Tensor delta = fresh(DType::kFloat32, statistic), dq = fresh(DType::kFloat32, heads),
                 dk = fresh(DType::kFloat32, k_.shape()), dv = fresh(DType::kFloat32, k_.shape());
    for (const Tensor& gradient : {dq, dk, dv}) backend.fill(gradient, 0.02);  // the backward pass adds to this
    backend.attention_delta(delta, dout_, out);
    for (size_t i = 0; i < cuts.size(); ++i) {
      const auto keys = [&](const Tensor& x) { return x.slice(1, from(i), cuts[i]); };
      backend.attention_backward(dq, keys(dk), keys(dv), q_, keys(k_), keys(v_), dout_, out, lse, delta, mask(i),
                                 scale);
    }
    result.dq = download_as_double(backend, dq), result.dk = download_as_double(backend, dk);
    result.dv = download_as_double(backend, dv);
    return result;
  }

 private:
  int64_t from(size_t i) const { return i == 0 ? 0 : cuts[i - 1]; }
  int64_t first_of(int64_t sequence, int64_t row) const {
    const int64_t index = c.query[static_cast<size_t>(row)], begin = c.document + sequence % 2;
    const int64_t document = c.document > 0 && index >= begin ? begin : 0;
    return c.window > 0 ? std::max(document, index - c.window + 1) : document;
  }

  const Case c;
  const int64_t rows;
  std::vector<int64_t> query, key, cuts, first;
  std::vector<MaskShape> shapes;
  std::vector<std::vector<MaskPiece>> pieces;
  std::unique_ptr<RandomTensor> q, k, v, dout;
};

// |a - b| / |b|; equal infinities are equal.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference += (a[i] - b[i]) * (a[i] - b[i]);
  }
  for (const double value : b) size += std::isfinite(value) ? value * value : 0;
  return size == 0 ? difference : std::sqrt(difference / size);
}

std::unique_ptr<Backend> device(const char* attention) {
  return make_backend({.device = "cuda", .attention = attention});
}

// A rounding to bfloat16 is at most 2^-9, about 1.1e-3 over many numbers. The output is rounded for each block and once
// as a whole; of the gradients, dk and dv of each query head, and then their sum.
constexpr double kForwardBound = 4e-3, kBackwardBound = 6e-3, kLogSumExpBound = 1e-5;

void expect_near(const Problem::Result& got, const Problem::Result& expected) {
  EXPECT_LT(distance(got.out, expected.out), kForwardBound);
  EXPECT_LT(distance(got.lse, expected.lse), kLogSumExpBound);
  EXPECT_LT(distance(got.dq, expected.dq), kBackwardBound);
  EXPECT_LT(distance(got.dk, expected.dk), kBackwardBound);
  EXPECT_LT(distance(got.dv, expected.dv), kBackwardBound);
}

TEST(CudaFusedAttention, BlocksOfARingEqualTheReference) {
  const auto reference = make_backend({.device = "reference"});
  const auto own = device("native"), fused = device("cudnn");
  EXPECT_EQ(own->describe().attention, "native kernels");
  EXPECT_NE(fused->describe().attention.find("cuDNN (emulated)"), std::string::npos);
  for (const Case& c : ring_cases()) {
    if (c.head_size == 96) continue;  // was not compared at the start, so it is not used
    SCOPED_TRACE(c.name);
    Problem problem(c);
    const auto expected = problem.on(*reference, true), got = problem.on(*fused, true);
    expect_near(got, expected);
    const auto others = problem.on(*own, true), again = problem.on(*fused, true);
    EXPECT_NE(got.lse, others.lse) << "the engine was not used";
    EXPECT_NE(got.dk, others.dk) << "the engine was not used backward";
    EXPECT_EQ(got.out, again.out);
    EXPECT_EQ(got.dq, again.dq);
    EXPECT_EQ(got.dk, again.dk);
  }
}

// If the model is known, the engine is compared for its head size and takes only that one.
TEST(CudaFusedAttention, TakesTheHeadsThatWereCompared) {
  const auto reference = make_backend({.device = "reference"});
  const auto own = device("native"), any = device("cudnn"),
             fused = make_backend({.device = "cuda", .attention = "auto", .head_size = 96, .head_group = 1});
  EXPECT_EQ(fused->describe().attention_engine, "cudnn");
  Problem problem(ring_cases().back()), other(ring_cases().front());
  const auto expected = problem.on(*reference, true), got = problem.on(*fused, true), others = problem.on(*own, true);
  expect_near(got, expected);
  EXPECT_NE(got.dk, others.dk);
  EXPECT_EQ(problem.on(*any, true).dk, others.dk);
  EXPECT_EQ(other.on(*fused, true).dk, other.on(*own, true).dk);
}

// Documents and windows: whole pieces go to the engine, the rest to the native kernels. If there are no whole pieces,
// the result equals the native one bit for bit.
TEST(CudaFusedAttention, MasksThatCutBlocksEqualTheReference) {
  const auto reference = make_backend({.device = "reference"});
  const auto own = device("native"), fused = device("cudnn");
  for (const Case& c : cut_cases()) {
    SCOPED_TRACE(c.name);
    Problem problem(c);
    const auto expected = problem.on(*reference, true), got = problem.on(*fused, true), others = problem.on(*own, true);
    expect_near(got, expected);
    EXPECT_EQ(problem.has_pieces(), attention_edge() < 100) << "not what this test is for";
    if (problem.has_pieces()) {
      EXPECT_NE(got.dk, others.dk) << "the engine was not used";
    } else {
      EXPECT_EQ(got.out, others.out);
      EXPECT_EQ(got.lse, others.lse);
      EXPECT_EQ(got.dk, others.dk);
    }
  }
}

// Handles an error like launch/main.cpp: prints its line and exits with its code.
[[noreturn]] void start(const char* emulation, const char* engine, const BackendOptions& options) {
  setenv("CARILLON_EMULATION", emulation, 1);
  if (engine != nullptr) setenv("CARILLON_CUDNN_LIBRARY", engine, 1);
  try {
    const std::string attention = make_backend(options)->describe().attention;
    std::fprintf(stderr, "runs with %s", attention.c_str());
    std::_Exit(0);
  } catch (const Error& error) {
    const std::string line = error.what();
    std::fprintf(stderr, "%s (%s)", line.c_str(), line.find('\n') == std::string::npos ? "one line" : "MANY LINES");
    std::_Exit(static_cast<int>(error.code()));
  }
}

// Each case runs in a process that has not used a device yet: googletest runs suites with this name first.
TEST(CudaFusedAttentionStartDeathTest, AWrongEngineIsRefused) {
  const BackendOptions cudnn{.device = "cuda", .attention = "cudnn"};
  EXPECT_EXIT(start("", nullptr, cudnn), ::testing::ExitedWithCode(0), "runs with cuDNN .emulated.");
  EXPECT_EXIT(start("attention=out", nullptr, cudnn), ::testing::ExitedWithCode(70),
              "differs from the native kernels: output by .*runtime.attention: cudnn, use native.*one line");
  EXPECT_EXIT(start("attention=lse", nullptr, cudnn), ::testing::ExitedWithCode(70), "differs from the native kernels");
  EXPECT_EXIT(start("attention=dk", nullptr, cudnn), ::testing::ExitedWithCode(70), "differs .*: dk by.*one line");
  EXPECT_EXIT(start("attention=lost", nullptr, cudnn), ::testing::ExitedWithCode(70), "differs .*: dk by.*one line");
  EXPECT_EXIT(start("attention=causal", nullptr, cudnn), ::testing::ExitedWithCode(70), "differs .*one line");
  EXPECT_EXIT(start("attention=own", nullptr, cudnn), ::testing::ExitedWithCode(70), "differs .*: dq by.*one line");
  EXPECT_EXIT(start("attention=dk", nullptr, {.device = "cuda"}), ::testing::ExitedWithCode(0),
              "runs with native kernels$");
}

// The engine was not requested by name, so the native kernels run instead, and the reason is given.
TEST(CudaFusedAttentionStartDeathTest, AutoTakesItWhereItIsRight) {
  const BackendOptions automatic{.device = "cuda", .attention = "auto"};
  EXPECT_EXIT(start("", nullptr, automatic), ::testing::ExitedWithCode(0), "runs with cuDNN .emulated. where blocks");
  EXPECT_EXIT(start("attention=dk", nullptr, automatic), ::testing::ExitedWithCode(0),
              "runs with native kernels .cuDNN .emulated. on .* differs from the native kernels: dk by");
  EXPECT_EXIT(start("capability=80", nullptr, automatic), ::testing::ExitedWithCode(0),
              "runs with native kernels .cuDNN's attention is for compute capability 9.0");
  EXPECT_EXIT(start("", "/nowhere/libcarillon_cudnn.so", automatic), ::testing::ExitedWithCode(0),
              "runs with native kernels .cuDNN's attention was not built");
}

// Prints how large the error over the blocks of a ring is if the engine passes its comparison and makes mistakes
// afterwards.
[[noreturn]] void err(const char* emulation) {
  setenv("CARILLON_EMULATION", emulation, 1);
  const auto reference = make_backend({.device = "reference"}), fused = device("cudnn");
  double worst = 0;
  for (const Case& c : ring_cases()) {
    Problem problem(c);
    const auto expected = problem.on(*reference, true), got = problem.on(*fused, true);
    for (const auto& [a, b] : {std::pair(&got.out, &expected.out), {&got.dq, &expected.dq}, {&got.dk, &expected.dk}})
      worst = std::max(worst, distance(*a, *b));
  }
  std::fprintf(stderr, "far by %s", worst > 10 * kBackwardBound ? "much" : worst > kBackwardBound ? "some" : "nothing");
  std::_Exit(0);
}

// Counts the calls of the comparison: two head sizes with three blocks each, forward and backward; backward is cut into
// pieces.
TEST(CudaFusedAttentionStartDeathTest, MistakesAfterTheStartAreSeen) {
  int64_t calls = 0;
  for (const MaskPiece& block : {MaskPiece{0, 160, 0, 160, MaskPiece::Kind::kCausal},
                                 {0, 160, 0, 96, MaskPiece::Kind::kFull},
                                 {0, 96, 0, 72, MaskPiece::Kind::kFull}})
    calls += 2 * (1 + static_cast<int64_t>(cut(block, attention_edge()).size()));
  for (const char* mistake : {"lost", "causal", "own"}) {
    const std::string options = fmt::format("attention={}:{}", mistake, calls);
    EXPECT_EXIT(err(options.c_str()), ::testing::ExitedWithCode(0), "far by much") << mistake;
  }
  EXPECT_EXIT(err("attention=own:1000000"), ::testing::ExitedWithCode(0), "far by nothing");
}

TEST(CudaFusedAttentionStartDeathTest, WhereItCannotRunItSaysSo) {
  const BackendOptions cudnn{.device = "cuda", .attention = "cudnn"};
  EXPECT_EXIT(start("capability=80", nullptr, cudnn), ::testing::ExitedWithCode(64),
              "for compute capability 9.0 and later, and CUDA device 0 .* has 8.0.*use native.*one line");
  EXPECT_EXIT(start("", "/nowhere/libcarillon_cudnn.so", cudnn), ::testing::ExitedWithCode(64),
              "was not built .there is no /nowhere/libcarillon_cudnn.so.*use native.*one line");
  EXPECT_EXIT(start("", "/proc/self/exe", cudnn), ::testing::ExitedWithCode(64),
              "cannot be loaded.*use native.*one line");
  EXPECT_EXIT(start("", nullptr, {.device = "cpu", .attention = "cudnn"}), ::testing::ExitedWithCode(64),
              "for CUDA devices.*one line");
}

}  // namespace
}  // namespace carillon::testing
