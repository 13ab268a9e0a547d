// Attention's CUDA kernels, run by tests/cuda_emulation, against the reference: every mask, in several calls that carry
// the state, in ring order, with and without tensor cores. Each case runs in four modes, {blocks, warps and lanes
// ascending, descending} x {asynchronous copies arrive late, early}: each mode finds mistakes that the others miss. The
// second half plants such mistakes (runtime/cuda/ops/injected_fault.h) and requires that they are found.
#include <gtest/gtest.h>

#include "tests/cuda_emulation/counters.h"
#include "tests/runtime/attention_problem.h"

// The broken variants, named by CMakeLists.txt.
#define CARILLON_FORWARD_BREAKS(X) \
  X(kBarrierRemoved)               \
  X(kBufferFreedTooEarly)          \
  X(kCopyNotWaitedFor)             \
  X(kMaskOffByOne)                 \
  X(kFragmentRowsSwapped)          \
  X(kAccumulatorNotRescaled)
#define CARILLON_BACKWARD_BREAKS(X) \
  X(kBarrierRemoved)                \
  X(kSecondBarrierRemoved)          \
  X(kBufferFreedTooEarly)           \
  X(kCopyNotWaitedFor)              \
  X(kMaskOffByOne)                  \
  X(kFragmentRowsSwapped)           \
  X(kLastFoldDropped)

// Of a call with both ends.
#define CARILLON_JOINED_BREAKS(X)       \
  X(backward_kTurnNotWaitedFor)         \
  X(backward_general_kTurnNotWaitedFor) \
  X(backward_general_kDeltaBarrierRemoved)

namespace carillon::cuda {
#define CARILLON_DECLARE(name) cudaError_t launch_attention_##name(const AttentionBackward&, cudaStream_t);
CARILLON_JOINED_BREAKS(CARILLON_DECLARE)
#undef CARILLON_DECLARE
#define CARILLON_DECLARE(name) cudaError_t launch_attention_forward_##name(const AttentionForward&, cudaStream_t);
CARILLON_FORWARD_BREAKS(CARILLON_DECLARE)
#undef CARILLON_DECLARE
#define CARILLON_DECLARE(name) cudaError_t launch_attention_backward_##name(const AttentionBackward&, cudaStream_t);
CARILLON_BACKWARD_BREAKS(CARILLON_DECLARE)
#undef CARILLON_DECLARE
}  // namespace carillon::cuda

namespace carillon::testing {
namespace {

std::vector<Case> cases() {
  return {
      {"causal, three tiles and a part", 1, 3, 1, 64, run(0, 200), {run(0, 200)}},
      {"later rows, blocks from the last", 1, 2, 2, 64, run(130, 260), {run(130, 260), run(70, 130), run(0, 70)}},
      {"two documents", 2, 2, 1, 64, run(0, 200), {run(0, 200)}, 130},
      {"documents in two calls", 1, 1, 1, 128, run(0, 130), {run(65, 130), run(0, 65)}, 50},
      {"window", 1, 1, 1, 64, run(0, 260), {run(0, 260)}, 0, 70},
      {"padding", 2, 1, 1, 64, run(0, 130), {run(0, 130)}, 100, 0, 20},
      zigzag(70),
      {"early rank of a zigzag ring",
       1,
       2,
       1,
       64,
       run(0, 66) + run(198, 264),
       {run(0, 66) + run(198, 264), run(66, 198)}},
      {"ragged", 1, 1, 1, 128, run(0, 200), {run(0, 200)}},
      {"ragged", 1, 2, 1, 96, run(0, 130), {run(0, 130)}},
      {"one row", 1, 1, 1, 64, run(300, 301), {run(300, 301), run(0, 300)}},
      {"keys that nobody sees", 1, 1, 1, 64, run(0, 70), {run(0, 70), run(70, 140)}},
      {"packed rows", 1, 1, 1, 64, run(0, 64), {run(0, 64)}, 0, 0, 0, 0},
  };
}

TEST(CudaAttention, TensorCoresEqualTheReference) {
  for (const Case& c : cases()) expect_reference(c, DType::kBFloat16);
}

TEST(CudaAttention, GeneralKernelsEqualTheReference) {
  for (const DType type : {DType::kFloat64, DType::kFloat32}) {
    for (Case c : cases())
      for (const int64_t head_size : {16, 80}) {
        c.head_size = head_size;
        expect_reference(c, type);
        if (head_size == 16) c.gap = 3;
      }
    expect_reference({"widest", 1, 2, 1, 256, run(0, 50), {run(0, 50)}}, type);
    expect_reference({"odd", 1, 2, 1, 33, run(0, 50), {run(0, 50)}, 0, 0, 0, 5}, type);
  }
}

// bfloat16 that the tensor cores do not take: other head sizes, rows that are not 16-byte aligned.
TEST(CudaAttention, OtherBFloat16EqualsTheReference) {
  expect_reference({"head size", 1, 2, 1, 80, run(0, 130), {run(0, 130)}}, DType::kBFloat16);
  expect_reference({"unaligned", 1, 2, 1, 64, run(0, 130), {run(65, 130), run(0, 65)}, 50, 0, 0, 3}, DType::kBFloat16);
}

// The same in calls with both ends, sinks too: neither state nor accumulators nor what delta held matters.
TEST(CudaAttention, CallsWithBothEndsEqualTheReference) {
  const auto check = [](const Case& c, DType type) {
    SCOPED_TRACE(fmt::format("{} {} head size {}", c.name, name_of(type), c.head_size));
    Problem problem(c, type);
    const Problem::Joined expected = problem.on_reference_joined();
    for (const Mode& mode : kModes) {
      enter(mode);
      EXPECT_LE(joined_distance(problem.on_device_joined(), expected, type), 1) << mode.name;
    }
  };
  std::vector<Case> all{{"causal", 1, 3, 1, 64, run(0, 200), {run(0, 200)}},
                        {"two documents", 2, 2, 1, 64, run(0, 130), {run(0, 130)}, 70},
                        {"padding", 2, 1, 1, 128, run(0, 200), {run(0, 200)}, 100, 0, 90},
                        {"ragged", 1, 2, 1, 96, run(0, 70), {run(0, 70)}}};
  for (const Case& c : all) check(c, DType::kBFloat16);
  for (Case c : all)
    for (const int64_t head_size : {16, 33}) {
      c.head_size = head_size;
      for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) check(c, type);
    }
}

// One NaN among the queries: its row shows it, the rows of others do not.
TEST(CudaAttention, NotANumberIsNotLost) {
  enter(kModes[0]);
  const auto reference = make_backend({.device = "reference"});
  const Case c{"NaN", 1, 2, 1, 64, run(0, 100), {run(0, 100)}};
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    Problem problem(c, type);
    reference->fill(problem.q.tensor().slice(1, 70, 71).slice(2, 0, 1).slice(3, 5, 6), std::nan(""));
    const Problem::Result got = problem.on_device();
    ASSERT_EQ(got.error, cudaSuccess);
    const std::vector<double> out = values_of(got.out), dv = values_of(got.dv);
    for (int64_t i = 0; i < 100; ++i)
      for (int64_t h = 0; h < 2; ++h)
        EXPECT_EQ(std::isnan(out[static_cast<size_t>((i * 2 + h) * 64)]), i == 70 && h == 0) << i << " " << h;
    EXPECT_TRUE(std::isnan(dv[0])) << "every key up to it gets a gradient from it";
    EXPECT_FALSE(std::isnan(dv[static_cast<size_t>(99 * 64)]));
  }
}

// The count of tensor-core instructions shows which 64 x 64 tiles were computed: exactly the necessary ones.
TEST(CudaAttention, TilesThatNobodySeesAreSkipped) {
  const auto products = [](const Case& c) {
    enter(kModes[0]);
    Problem problem(c, DType::kBFloat16);
    EXPECT_EQ(problem.on_device().error, cudaSuccess);
    CarillonEmulationCounters counters;
    carillon_emulation_counters(&counters);
    return static_cast<int64_t>(counters.matrix_products);
  };
  // 2 products forward, 4 and 3 backward, each 64·64·64 multiplications of 16·8·16 an instruction.
  constexpr int64_t kTile = (2 + 4 + 3) * 64 * 64 * 64 / (16 * 8 * 16);
  EXPECT_EQ(products({"causal", 1, 1, 1, 64, run(0, 256), {run(0, 256)}}), 10 * kTile);
  EXPECT_EQ(products({"all seen", 1, 1, 1, 64, run(256, 512), {run(0, 256)}}), 16 * kTile);
  EXPECT_EQ(products({"none seen", 1, 1, 1, 64, run(0, 256), {run(256, 512)}}), 0);
  EXPECT_EQ(products({"documents", 1, 1, 1, 64, run(0, 256), {run(0, 256)}, 128}), 6 * kTile);
  EXPECT_EQ(products({"window", 1, 1, 1, 64, run(0, 256), {run(0, 256)}, 0, 65}), 7 * kTile);
  EXPECT_EQ(products({"two calls", 1, 1, 1, 64, run(128, 256), {run(128, 256), run(0, 128)}}), 7 * kTile);
}

// The rows of a tile are placed so that no two of the eight rows that ldmatrix reads at once share a bank.
TEST(CudaAttention, NoBankConflicts) {
  for (const int64_t head_size : {64, 96, 128}) {
    enter(kModes[0]);
    Problem problem({"causal", 1, 1, 1, head_size, run(0, 130), {run(0, 130)}}, DType::kBFloat16);
    EXPECT_EQ(problem.on_device().error, cudaSuccess);
    CarillonEmulationCounters counters;
    carillon_emulation_counters(&counters);
    EXPECT_GT(counters.ldmatrix_phases, 0u) << head_size;
    EXPECT_EQ(counters.ldmatrix_conflicts, 0u) << head_size;
  }
}

TEST(CudaAttention, HeadsBeyondTheWidestAreRefused) {
  enter(kModes[0]);
  Problem problem({"too wide", 1, 1, 1, 257, run(0, 4), {run(0, 4)}}, DType::kFloat32);
  EXPECT_EQ(problem.on_device().error, cudaErrorInvalidValue);
}

// ---- planted mistakes
struct Break {
  const char* name;
  Kernels kernels;
};
std::vector<Break> breaks() {
  std::vector<Break> list;
#define CARILLON_LIST(name) list.push_back({"forward " #name, {.forward = cuda::launch_attention_forward_##name}});
  CARILLON_FORWARD_BREAKS(CARILLON_LIST)
#undef CARILLON_LIST
#define CARILLON_LIST(name) list.push_back({"backward " #name, {.backward = cuda::launch_attention_backward_##name}});
  CARILLON_BACKWARD_BREAKS(CARILLON_LIST)
#undef CARILLON_LIST
  return list;
}

// Each mistake is found in at least one of the four modes; the test prints which (see tests/cuda_emulation/README.md).
TEST(CudaAttention, PlantedMistakesAreFound) {
  Problem problem({"causal", 1, 2, 1, 64, run(0, 260), {run(130, 260), run(0, 130)}}, DType::kBFloat16);
  const Problem::Result expected = problem.on_reference();
  fmt::print("| mistake |");
  for (const Mode& mode : kModes) fmt::print(" {} |", mode.name);
  fmt::print("\n");
  for (const Break& mistake : breaks()) {
    int found = 0;
    fmt::print("| {} |", mistake.name);
    for (const Mode& mode : kModes) {
      enter(mode);
      const double far = distance(problem.on_device(mistake.kernels), expected, DType::kBFloat16);
      found += far > 1;
      fmt::print(" {} |", far > 1 ? fmt::format("found, {:.3g} bounds", far) : "missed");
    }
    fmt::print("\n");
    EXPECT_GT(found, 0) << mistake.name;
  }
}

TEST(CudaAttention, PlantedMistakesOfCallsWithBothEndsAreFound) {
  const struct {
    const char* name;
    cudaError_t (*backward)(const cuda::AttentionBackward&, cudaStream_t);
  } mistakes[] = {
#define CARILLON_LIST(name) {#name, cuda::launch_attention_##name},
      CARILLON_JOINED_BREAKS(CARILLON_LIST)
#undef CARILLON_LIST
  };
  for (const auto& [name, backward] : mistakes) {
    // With an odd number of pairs no lane turns what it wrote itself.
    Problem problem({"causal", 1, 2, 1, 96, run(0, 130), {run(0, 130)}}, DType::kBFloat16);
    const Problem::Joined expected = problem.on_reference_joined();
    int found = 0;
    for (const Mode& mode : kModes) {
      enter(mode);
      Kernels kernels;
      kernels.backward = backward;
      found += joined_distance(problem.on_device_joined(kernels), expected, DType::kBFloat16) > 1;
    }
    EXPECT_GT(found, 0) << name;
  }
}

}  // namespace
}  // namespace carillon::testing
