// The steps around one block of a second engine's backward pass (runtime/cuda/attention/attention_fold.cu), run by
// tests/cuda_emulation in both orders of threads: the log-sum-exp of its rows and the sums of its gradients must match
// bit for bit, and each planted mistake must be found.
#include <gtest/gtest.h>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <vector>

#include "runtime/cuda/attention/attention_kernels.h"
#include "tests/runtime/on_device.h"

// The broken variants listed in CMakeLists.txt.
#define CARILLON_FOLD_BREAKS(X) \
  X(kEmptyRowWeighs)            \
  X(kFoldOverwrites)            \
  X(kFoldKeysLeftOut)           \
  X(kTurnNotWaitedFor)

namespace carillon::cuda {
#define CARILLON_DECLARE(name)                                                  \
  cudaError_t launch_attention_fold_##name(const AttentionFold&, cudaStream_t); \
  cudaError_t launch_attention_rows_lse_##name(const AttentionRowsLse&, cudaStream_t);
CARILLON_FOLD_BREAKS(CARILLON_DECLARE)
#undef CARILLON_DECLARE
}  // namespace carillon::cuda

namespace carillon::testing {
namespace {

struct Kernels {
  std::function<cudaError_t(const cuda::AttentionFold&, cudaStream_t)> fold = cuda::launch_attention_fold;
  std::function<cudaError_t(const cuda::AttentionRowsLse&, cudaStream_t)> rows_lse = cuda::launch_attention_rows_lse;
};

// Rows and keys of a block inside longer accumulators, with `gap` elements between their rows.
struct Sizes {
  int64_t batch, rows, keys;
  int heads, kv_heads, head_size;
  int64_t gap, before;  // tokens of the accumulators before the block
};

// Returns the number of wrong elements.
int64_t wrong(const Sizes& s, const Kernels& kernels) {
  uint64_t random = 3;
  const auto next = [&] {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<double>(random >> 11) * 0x1p-52 - 1);
  };
  const int64_t width = s.head_size + s.gap;
  int64_t count = 0;
  // Both sides of one sum: the accumulator [B, before + tokens + 1, heads, width] and the block [B, tokens, heads, HD].
  struct Side {
    int64_t tokens;
    int heads;
    std::vector<float> sums, expected;
    std::vector<float> wide;
    std::vector<__nv_bfloat16> narrow;
  };
  const auto side = [&](int64_t tokens, int heads, bool narrow) {
    Side x{tokens, heads, {}, {}, {}, {}};
    x.sums.resize(static_cast<size_t>(s.batch * (s.before + tokens + 1) * heads * width));
    for (float& value : x.sums) value = next();
    x.expected = x.sums;
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t h = 0; h < heads; ++h)
          for (int64_t i = 0; i < s.head_size; ++i) {
            float part = next();
            if (narrow) {
              x.narrow.push_back(__float2bfloat16_rn(part));
              part = __bfloat162float(x.narrow.back());
            } else {
              x.wide.push_back(part);
            }
            x.expected[static_cast<size_t>((((b * (s.before + tokens + 1)) + s.before + t) * heads + h) * width + i)] +=
                part;
          }
    return x;
  };
  const Side q = side(s.rows, s.heads, false), k = side(s.keys, s.kv_heads, true), v = side(s.keys, s.kv_heads, true);
  const OnDevice<float> dq(q.sums), dk(k.sums), dv(v.sums), block_q(q.wide);
  const OnDevice<__nv_bfloat16> block_k(k.narrow), block_v(v.narrow);
  const auto whole = [&](float* data, const Side& x) {
    const int64_t token = x.heads * width;
    return cuda::HeadsView{data + s.before * token, (s.before + x.tokens + 1) * token, token, width};
  };
  const auto packed = [&](void* data, const Side& x) {
    const int64_t token = int64_t{x.heads} * s.head_size;
    return cuda::HeadsView{data, x.tokens * token, token, s.head_size};
  };
  if (kernels.fold({s.batch, s.rows, s.keys, s.heads, s.kv_heads, s.head_size, whole(dq.get(), q), whole(dk.get(), k),
                    whole(dv.get(), v), packed(block_q.get(), q), packed(block_k.get(), k), packed(block_v.get(), v)},
                   nullptr) != cudaSuccess ||
      cudaDeviceSynchronize() != cudaSuccess)
    return -1;
  for (const auto& [got, expected] :
       {std::pair(dq.read(), q.expected), {dk.read(), k.expected}, {dv.read(), v.expected}})
    for (size_t i = 0; i < got.size(); ++i) count += got[i] == expected[i] ? 0 : 1;

  // The same block alone: rounded, queries and keys turned back by a table of two rows.
  const int pairs = s.head_size / 2;
  std::vector<float> cosines(static_cast<size_t>(2 * pairs)), sines(cosines.size());
  for (size_t i = 0; i < cosines.size(); ++i) cosines[i] = next(), sines[i] = next();
  std::vector<int64_t> place(static_cast<size_t>(s.batch * std::max(s.rows, s.keys)));
  for (size_t i = 0; i < place.size(); ++i) place[i] = static_cast<int64_t>(i % 3 == 0);
  const OnDevice<float> cosine(cosines), sine(sines);
  const OnDevice<int64_t> position(place);
  const auto rounded = [](float x) { return __bfloat162float(__float2bfloat16_rn(x)); };
  const auto turned = [&](const Side& x, bool turns) {
    std::vector<float> values = x.wide;
    for (const __nv_bfloat16 value : x.narrow) values.push_back(__bfloat162float(value));
    for (float& value : values) value = rounded(value);
    for (size_t row = 0; turns && row < values.size() / static_cast<size_t>(s.head_size); ++row) {
      const auto at = static_cast<size_t>(place[row / static_cast<size_t>(x.heads)] * pairs);
      float* const u = values.data() + row * static_cast<size_t>(s.head_size);
      for (int j = 0; j < pairs; ++j) {
        const float a = u[j], b = u[j + pairs], c = cosines[at + j], d = sines[at + j];
        u[j] = rounded(a * c + b * d);
        u[j + pairs] = rounded(b * c - a * d);
      }
    }
    return values;
  };
  const OnDevice<__nv_bfloat16> rq(std::vector<__nv_bfloat16>(q.wide.size())), rk(k.narrow), rv(k.narrow);
  if (kernels.fold({s.batch,
                    s.rows,
                    s.keys,
                    s.heads,
                    s.kv_heads,
                    s.head_size,
                    packed(rq.get(), q),
                    packed(rk.get(), k),
                    packed(rv.get(), v),
                    packed(block_q.get(), q),
                    packed(block_k.get(), k),
                    packed(block_v.get(), v),
                    true,
                    {position.get(), cosine.get(), sine.get(), 2, pairs}},
                   nullptr) != cudaSuccess ||
      cudaDeviceSynchronize() != cudaSuccess)
    return -1;
  for (const auto& [got, expected] :
       {std::pair(rq.read(), turned(q, true)), {rk.read(), turned(k, true)}, {rv.read(), turned(v, false)}})
    for (size_t i = 0; i < got.size(); ++i) count += __bfloat162float(got[i]) == expected[i] ? 0 : 1;

  // [B, NH, before + rows], with a row without keys, and a padding row whose log-sum-exp is a finite number.
  const int64_t all = s.before + s.rows;
  std::vector<float> lse(static_cast<size_t>(s.batch * s.heads * all));
  for (float& value : lse) value = 5 * next();
  std::vector<int64_t> index(static_cast<size_t>(s.rows)), first(static_cast<size_t>(s.batch * s.rows));
  for (int64_t row = 0; row < s.rows; ++row) index[static_cast<size_t>(row)] = s.before + row;
  for (int64_t b = 0; b < s.batch; ++b) first[static_cast<size_t>((b + 1) * s.rows - 1)] = 1 << 20;
  for (int64_t line = 0; line < s.batch * s.heads; ++line)
    lse[static_cast<size_t>(line * all + s.before + 1)] = -INFINITY;
  const OnDevice<float> lses(lse), result(std::vector<float>(static_cast<size_t>(s.batch * s.heads * s.rows)));
  const OnDevice<int64_t> indices(index), firsts(first);
  const cuda::AttentionRows shape{cuda::Type::kBFloat16, s.batch, s.rows, s.heads, s.head_size};
  if (kernels.rows_lse(
          {shape, {lses.get() + s.before, s.heads * all, all}, result.get(), indices.get(), firsts.get(), s.rows},
          nullptr) != cudaSuccess ||
      cudaDeviceSynchronize() != cudaSuccess)
    return -1;
  const std::vector<float> got = result.read();
  for (int64_t line = 0; line < s.batch * s.heads; ++line)
    for (int64_t row = 0; row < s.rows; ++row) {
      const float value = got[static_cast<size_t>(line * s.rows + row)];
      const bool empty = row == 1 || row == s.rows - 1;
      const bool right = empty ? std::isfinite(value) && std::exp(100 - value) == 0
                               : value == lse[static_cast<size_t>(line * all + s.before + row)];
      count += right ? 0 : 1;
    }
  return count;
}

constexpr const char* kOrders[] = {"order=ascending", "order=descending"};
void enter(const char* order) {
  setenv("CARILLON_EMULATION", order, 1);
  cudaDeviceReset();
}
const Sizes kSizes[] = {{2, 13, 7, 4, 2, 64, 0, 3}, {1, 9, 20, 2, 2, 128, 8, 0}, {1, 5, 4, 3, 1, 33, 5, 1}};

TEST(CudaFold, AddsAndPacksToTheBit) {
  for (const char* order : kOrders)
    for (const Sizes& sizes : kSizes) {
      enter(order);
      EXPECT_EQ(wrong(sizes, {}), 0) << order << " head size " << sizes.head_size;
    }
}

TEST(CudaFold, PlantedMistakesAreFound) {
  struct Break {
    const char* name;
    Kernels kernels;
  };
#define CARILLON_LIST(name) {#name, {cuda::launch_attention_fold_##name, cuda::launch_attention_rows_lse_##name}},
  const Break breaks[] = {CARILLON_FOLD_BREAKS(CARILLON_LIST)};
#undef CARILLON_LIST
  for (const Break& mistake : breaks) {
    enter(kOrders[0]);
    EXPECT_GT(wrong(kSizes[0], mistake.kernels), 0) << mistake.name;
  }
}

}  // namespace
}  // namespace carillon::testing
