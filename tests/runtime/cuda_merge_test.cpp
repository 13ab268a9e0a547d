// Folding a second attention engine's blocks into the state (runtime/cuda/attention/attention_merge.cu), run by
// tests/cuda_emulation in both orders of threads, against the same formulas in float64; and each planted mistake must
// be found.
#include <gtest/gtest.h>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <vector>

#include "runtime/cuda/attention/attention_kernels.h"
#include "tests/runtime/on_device.h"

// The broken variants listed in CMakeLists.txt.
#define CARILLON_MERGE_BREAKS(X) \
  X(kMergeWrongSign)             \
  X(kMergeLeftOut)               \
  X(kMergeNotRescaled)           \
  X(kMergeWarpNotWaitedFor)

namespace carillon::cuda {
#define CARILLON_DECLARE(name) cudaError_t launch_attention_merge_##name(const AttentionMerge&, cudaStream_t);
CARILLON_MERGE_BREAKS(CARILLON_DECLARE)
#undef CARILLON_DECLARE
}  // namespace carillon::cuda

namespace carillon::testing {
namespace {

using Launch = std::function<cudaError_t(const cuda::AttentionMerge&, cudaStream_t)>;

// [B, T, NH, HD] and [B, NH, T]; the last row of each sequence is padding.
struct Sizes {
  int64_t batch, rows;
  int heads, head_size;
  int64_t gap;  // elements between rows
};

// Three blocks: with moderate, much larger, and smaller scores; each has some rows without keys.
constexpr double kLevel[] = {0.5, 9, -6};

// The largest error of out and lse, relative to values of size 1; infinite if any value is not finite.
double error_of(const Sizes& s, const Launch& launch) {
  const int64_t width = s.head_size + s.gap, rows = s.batch * s.rows * s.heads;
  uint64_t random = 7;
  const auto next = [&] {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(random >> 11) * 0x1p-52 - 1;
  };
  std::vector<int64_t> query(static_cast<size_t>(s.rows)), first(static_cast<size_t>(s.batch * s.rows));
  for (int64_t t = 0; t < s.rows; ++t) query[static_cast<size_t>(t)] = t;
  for (int64_t b = 0; b < s.batch; ++b) first[static_cast<size_t>((b + 1) * s.rows - 1)] = 1 << 20;

  // The old content of the state's memory must not matter.
  OnDevice<float> accumulator(std::vector<float>(static_cast<size_t>(rows * width), NAN)),
      maximum(std::vector<float>(static_cast<size_t>(rows))), sum(std::vector<float>(static_cast<size_t>(rows)));
  const OnDevice<int64_t> queries(query), firsts(first);
  const cuda::AttentionRows shape{cuda::Type::kBFloat16, s.batch, s.rows, s.heads, s.head_size};
  const auto heads = [&](void* data) {
    return cuda::HeadsView{data, s.rows * s.heads * width, s.heads * width, width};
  };
  const auto statistic = [&](void* data) { return cuda::StatisticView{data, s.heads * s.rows, s.rows}; };
  cuda::launch_attention_begin(shape, statistic(maximum.get()), statistic(sum.get()), nullptr, cuda::Type::kFloat32,
                               nullptr);

  std::vector<double> sums(static_cast<size_t>(rows)), outs(static_cast<size_t>(rows * s.head_size));
  for (const double level : kLevel) {
    std::vector<__nv_bfloat16> out(static_cast<size_t>(rows * width));
    std::vector<float> lse(static_cast<size_t>(rows));
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t t = 0; t < s.rows; ++t)
        for (int64_t h = 0; h < s.heads; ++h) {
          const auto row = static_cast<size_t>((b * s.rows + t) * s.heads + h);
          float& score = lse[static_cast<size_t>((b * s.heads + h) * s.rows + t)];
          score = (row + static_cast<size_t>(level + 6)) % 5 == 0 ? -INFINITY : static_cast<float>(level + next());
          const bool padding = t == s.rows - 1;
          if (padding) score = 3;
          for (int64_t i = 0; i < s.head_size; ++i) {
            __nv_bfloat16& value = out[row * static_cast<size_t>(width) + static_cast<size_t>(i)];
            value = __float2bfloat16_rn(static_cast<float>(next()));
            if (!padding)
              outs[row * static_cast<size_t>(s.head_size) + static_cast<size_t>(i)] +=
                  std::exp(static_cast<double>(score)) * static_cast<double>(__bfloat162float(value));
          }
          if (!padding) sums[row] += std::exp(static_cast<double>(score));
        }
    const OnDevice<__nv_bfloat16> block(out);
    const OnDevice<float> lses(lse);
    if (launch({shape, heads(block.get()), statistic(lses.get()), heads(accumulator.get()), statistic(maximum.get()),
                statistic(sum.get()), queries.get(), firsts.get(), s.rows},
               nullptr) != cudaSuccess ||
        cudaDeviceSynchronize() != cudaSuccess)
      return INFINITY;
  }
  const std::vector<float> got = accumulator.read(), reference = maximum.read(), total = sum.read();
  double worst = 0;
  const auto include = [&](double error) { worst = std::isfinite(error) ? std::max(worst, error) : INFINITY; };
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t t = 0; t < s.rows; ++t)
      for (int64_t h = 0; h < s.heads; ++h) {
        const auto row = static_cast<size_t>((b * s.rows + t) * s.heads + h);
        const auto at = static_cast<size_t>((b * s.heads + h) * s.rows + t);
        if (sums[row] == 0) {
          include(total[at] == 0 && std::isinf(reference[at]) ? 0 : INFINITY);
          continue;
        }
        include(std::abs(static_cast<double>(reference[at]) + std::log(static_cast<double>(total[at])) -
                         std::log(sums[row])));
        for (size_t i = 0; i < static_cast<size_t>(s.head_size); ++i)
          include(
              std::abs(static_cast<double>(got[row * static_cast<size_t>(width) + i]) / static_cast<double>(total[at]) -
                       outs[row * static_cast<size_t>(s.head_size) + i] / sums[row]));
      }
  return worst;
}

constexpr const char* kOrders[] = {"order=ascending", "order=descending"};
void enter(const char* order) {
  setenv("CARILLON_EMULATION", order, 1);
  cudaDeviceReset();
}

constexpr double kBound = 4e-6;  // float32, three folds
const Sizes kSizes[] = {{2, 13, 3, 64, 0}, {1, 9, 2, 128, 8}, {1, 5, 1, 33, 5}};

TEST(CudaMerge, EqualsOneSoftmaxOverAllBlocks) {
  for (const char* order : kOrders)
    for (const Sizes& sizes : kSizes) {
      enter(order);
      EXPECT_LT(error_of(sizes, cuda::launch_attention_merge), kBound) << order << " head size " << sizes.head_size;
    }
}

TEST(CudaMerge, PlantedMistakesAreFound) {
  struct Break {
    const char* name;
    Launch launch;
  };
#define CARILLON_LIST(name) {#name, cuda::launch_attention_merge_##name},
  const Break breaks[] = {CARILLON_MERGE_BREAKS(CARILLON_LIST)};
#undef CARILLON_LIST
  for (const Break& mistake : breaks) {
    double worst = 0;
    for (const char* order : kOrders) {
      enter(order);
      const double error = error_of(kSizes[0], mistake.launch);
      std::printf("%s, %s: %.2g\n", mistake.name, order, error);
      worst = std::max(worst, error);
    }
    EXPECT_GT(worst, 100 * kBound) << mistake.name;  // in one order at least
  }
}

}  // namespace
}  // namespace carillon::testing
