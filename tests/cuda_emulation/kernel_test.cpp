// Kernels under the emulation: correct ones, and which planted mistake is caught in which mode.
// MistakesAreCaughtWhereTheTableSaysSo checks the table in README.md, including the misses.
#include <cmath>
#include <cstring>
#include <functional>

#include "cuda_bf16.h"
#include "emulation_test.h"
#include "runtime/cuda/ops/tensor_core.h"

namespace carillon_emulation {
namespace {

constexpr int kThreads = 128;
constexpr int kTiles = 4;
constexpr unsigned kAll = 0xffffffffu;

struct TileArgs {
  const float* x;  // [kTiles, kThreads]
  float* y;        // [kThreads]
};

enum class Mistake {
  kNone,
  kFirstBarrier,       // of a loop removed: data is read before all of it is written
  kSecondBarrier,      // of a loop removed: data is overwritten while it is read
  kWait,               // for an asynchronous copy removed
  kCopyTooEarly,       // issued before the barrier that frees its buffer
  kFirstThreadWrites,  // and all read, without a barrier
  kLastThreadWrites,
  kSyncwarp,      // removed between neighbours that exchange through shared memory
  kFragmentRows,  // of the first operand exchanged
};

// y[i] = sum over tiles of x[tile][(i + 37) % kThreads], through shared memory.
template <Mistake kMistake>
__global__ void staged_sum(const __grid_constant__ TileArgs args) {
  float* tile = reinterpret_cast<float*>(shared_memory);
  const int me = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int t = 0; t < kTiles; ++t) {
    tile[me] = args.x[t * kThreads + me];
    if (kMistake != Mistake::kFirstBarrier) __syncthreads();
    sum += tile[(me + 37) % kThreads];
    if (kMistake != Mistake::kSecondBarrier) __syncthreads();
  }
  args.y[me] = sum;
}

__device__ void copy_tile(const TileArgs& args, int t) {
  if (t < kTiles && threadIdx.x < kThreads / 4)
    copy_async_16(shared_memory + (t % 2) * kThreads * 4 + threadIdx.x * 16, args.x + t * kThreads + threadIdx.x * 4,
                  true);
  copy_async_commit();
}

// The same with two buffers filled by asynchronous copies.
template <Mistake kMistake>
__global__ void pipelined_sum(const __grid_constant__ TileArgs args) {
  const int me = static_cast<int>(threadIdx.x);
  float sum = 0;
  copy_tile(args, 0);
  for (int t = 0; t < kTiles; ++t) {
    if (kMistake == Mistake::kCopyTooEarly) {
      copy_tile(args, t + 1);
      copy_async_wait<1>();
      __syncthreads();
    } else {
      if (kMistake != Mistake::kWait) copy_async_wait<0>();
      __syncthreads();
      copy_tile(args, t + 1);
    }
    sum += reinterpret_cast<float*>(shared_memory)[(t % 2) * kThreads + (me + 37) % kThreads];
  }
  copy_async_wait<0>();
  args.y[me] = sum;
}

// y[i] = x[writer]
template <Mistake kMistake>
__global__ void broadcast(const __grid_constant__ TileArgs args) {
  auto* slot = reinterpret_cast<float*>(shared_memory);
  const unsigned writer = kMistake == Mistake::kLastThreadWrites ? kThreads - 1 : 0;
  if (threadIdx.x == writer) *slot = args.x[writer];
  if (kMistake == Mistake::kNone) __syncthreads();
  args.y[threadIdx.x] = *slot;
}

// y[i] = x[i ^ 1]
template <Mistake kMistake>
__global__ void neighbours(const __grid_constant__ TileArgs args) {
  auto* slots = reinterpret_cast<float*>(shared_memory);
  slots[threadIdx.x] = args.x[threadIdx.x];
  if (kMistake != Mistake::kSyncwarp) __syncwarp();
  args.y[threadIdx.x] = slots[threadIdx.x ^ 1];
}

std::vector<float> tiles() {
  std::vector<float> x(kTiles * kThreads);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * i % 1009);
  return x;
}

// The number of wrong values; NaN counts as wrong.
int wrong(const std::vector<float>& y, const std::function<float(int)>& expected) {
  int count = 0;
  for (int i = 0; i < kThreads; ++i) count += !(y[static_cast<std::size_t>(i)] == expected(i));
  return count;
}

int run_tiles(void (*kernel)(TileArgs), const std::function<float(int)>& expected) {
  const float* x = on_device(tiles());
  float* y = on_device(std::vector<float>(kThreads, -1));
  EXPECT_CUDA(run(kernel, 1, kThreads, 2 * kThreads * sizeof(float), nullptr, TileArgs{x, y}));
  return wrong(to_host(y, kThreads), expected);
}

float shifted_sum(int i) {
  const std::vector<float> x = tiles();
  float sum = 0;
  for (int t = 0; t < kTiles; ++t) sum += x[static_cast<std::size_t>(t * kThreads + (i + 37) % kThreads)];
  return sum;
}
float first_value(int) { return tiles()[0]; }
float last_value(int) { return tiles()[kThreads - 1]; }
float neighbour_value(int i) { return tiles()[static_cast<std::size_t>(i ^ 1)]; }

// ---- fragments -----------------------------------------------------------------------------------------------------
// d[16, 8] = a[16, 16] b[16, 8]; a row-major, b as its transpose [8, 16] or, kTransposed, as [16, 8].
struct ProductArgs {
  const __nv_bfloat16 *a, *b;
  float* d;
};

template <bool kTransposed, Mistake kMistake = Mistake::kNone>
__global__ void product(const __grid_constant__ ProductArgs args) {
  auto* a = reinterpret_cast<__nv_bfloat16*>(shared_memory);
  auto* b = a + 16 * 16;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * 16; i += 32) a[i] = args.a[i];
  for (int i = lane; i < 16 * 8; i += 32) b[i] = args.b[i];
  for (int i = lane; i < 16 * 8; i += 32) b[16 * 8 + i] = __float2bfloat16_rn(0.0f);
  __syncwarp();
  uint32_t fa[4], fb[4];
  ldmatrix_x4(fa, a + (lane & 15) * 16 + (lane >> 4) * 8);
  if constexpr (kTransposed)
    ldmatrix_x4_trans(fb, b + (lane & 15) * 8);
  else
    ldmatrix_x4(fb, b + (lane & 7) * 16 + ((lane >> 3) & 1) * 8);
  if (kMistake == Mistake::kFragmentRows) std::swap(fa[0], fa[1]);
  float d[4] = {};
  mma_m16n8k16(d, fa, fb[0], fb[1]);
  for (int e = 0; e < 4; ++e) args.d[(lane / 4 + 8 * (e >> 1)) * 8 + 2 * (lane % 4) + (e & 1)] = d[e];
}

// Uses small integers, so that every product and sum is exact.
template <bool kTransposed, Mistake kMistake = Mistake::kNone>
int product_mistakes() {
  std::vector<__nv_bfloat16> a(16 * 16), b(16 * 8);
  const auto value = [](std::size_t i) { return static_cast<float>(static_cast<int>(i * 7 % 23) - 11); };
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = __float2bfloat16_rn(value(i));
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = __float2bfloat16_rn(value(i + 5));
  float* d = on_device(std::vector<float>(kThreads, -1));
  EXPECT_CUDA(run(product<kTransposed, kMistake>, 1, 32, 1024, nullptr, ProductArgs{on_device(a), on_device(b), d}));
  return wrong(to_host(d, kThreads), [&](int i) {
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const int at = kTransposed ? k * 8 + i % 8 : i % 8 * 16 + k;
      sum += __bfloat162float(a[static_cast<std::size_t>(i / 8 * 16 + k)]) *
             __bfloat162float(b[static_cast<std::size_t>(at)]);
    }
    return sum;
  });
}

// ---- the table -----------------------------------------------------------------------------------------------------
struct Row {
  const char* mistake;
  std::function<int()> wrong_values;
  bool caught[4];  // late ascending, late descending, early ascending, early descending
};
constexpr const char* kModes[] = {"copies=late,order=ascending", "copies=late,order=descending",
                                  "copies=early,order=ascending", "copies=early,order=descending"};

const std::vector<Row>& table() {
  static const std::vector<Row> rows = {
      {"none: staged", [] { return run_tiles(staged_sum<Mistake::kNone>, shifted_sum); }, {}},
      {"none: pipelined", [] { return run_tiles(pipelined_sum<Mistake::kNone>, shifted_sum); }, {}},
      {"none: broadcast", [] { return run_tiles(broadcast<Mistake::kNone>, first_value); }, {}},
      {"none: neighbours", [] { return run_tiles(neighbours<Mistake::kNone>, neighbour_value); }, {}},
      {"none: product", [] { return product_mistakes<false>() + product_mistakes<true>(); }, {}},
      {"first __syncthreads of a loop removed",
       [] { return run_tiles(staged_sum<Mistake::kFirstBarrier>, shifted_sum); },
       {true, true, true, true}},
      {"second __syncthreads of a loop removed",
       [] { return run_tiles(staged_sum<Mistake::kSecondBarrier>, shifted_sum); },
       {true, true, true, true}},
      {"wait for a copy removed",
       [] { return run_tiles(pipelined_sum<Mistake::kWait>, shifted_sum); },
       {true, true, false, false}},
      {"copy issued before the barrier that frees its buffer",
       [] { return run_tiles(pipelined_sum<Mistake::kCopyTooEarly>, shifted_sum); },
       {false, false, true, true}},
      {"thread 0 writes, all read, no barrier",
       [] { return run_tiles(broadcast<Mistake::kFirstThreadWrites>, first_value); },
       {false, true, false, true}},
      {"last thread writes, all read, no barrier",
       [] { return run_tiles(broadcast<Mistake::kLastThreadWrites>, last_value); },
       {true, false, true, false}},
      {"neighbours exchange without __syncwarp",
       [] { return run_tiles(neighbours<Mistake::kSyncwarp>, neighbour_value); },
       {true, true, true, true}},
      {"fragment rows exchanged",
       [] { return product_mistakes<false, Mistake::kFragmentRows>(); },
       {true, true, true, true}},
  };
  return rows;
}

class Kernels : public Emulation {};

TEST_F(Kernels, MistakesAreCaughtWhereTheTableSaysSo) {
  for (int mode = 0; mode < 4; ++mode) {
    use_mode(kModes[mode]);
    for (const Row& row : table())
      EXPECT_EQ(row.wrong_values() > 0, row.caught[mode]) << row.mistake << ", " << kModes[mode];
  }
}

// Every mistake is caught in at least one mode.
TEST_F(Kernels, TheFourModesTogetherCatchAll) {
  for (const Row& row : table()) {
    if (std::strncmp(row.mistake, "none", 4) == 0) continue;
    EXPECT_TRUE(row.caught[0] || row.caught[1] || row.caught[2] || row.caught[3]) << row.mistake;
  }
}

// ---- faults that stop a kernel -------------------------------------------------------------------------------------
__global__ void returns_before_shuffle(float* y) {
  if (threadIdx.x == 3) return;
  y[threadIdx.x] = __shfl_xor_sync(kAll, 1.0f, 1);
}
__global__ void barrier_in_branch(float* y) {
  if (threadIdx.x < 40) {
    __syncthreads();
    y[0] = 1;
  } else {
    __syncthreads();
  }
}
__global__ void barrier_for_some(float*) {
  if (threadIdx.x < 40) __syncthreads();
}
__global__ void different_operations(float* y) {
  if (threadIdx.x % 2)
    __syncwarp();
  else
    y[threadIdx.x] = __shfl_xor_sync(kAll, 1.0f, 1);
}
__global__ void never_waits(float* y) { copy_async_16(shared_memory, y, true); }
__global__ void half_mask(float*) { __syncwarp(0xffff); }
__global__ void overruns_shared(float*) { shared_memory[1024 + threadIdx.x] = 0; }
__global__ void misaligned_copy(float* y) {
  copy_async_16(shared_memory + 8, y, true);
  copy_async_commit();
  copy_async_wait<0>();
}
__global__ void misaligned_ldmatrix(float*) {
  uint32_t out[4];
  ldmatrix_x4(out, shared_memory + 2 * threadIdx.x);
}
__global__ void ldmatrix_outside(float*) {
  uint32_t out[4];
  ldmatrix_x4(out, shared_memory + 1024 + 16 * threadIdx.x);
}

void expect_stop(void (*kernel)(float*), const char* message) {
  use_mode("");
  float* y = on_device(std::vector<float>(kThreads));
  EXPECT_CUDA(run(kernel, 1, kThreads, 1024, nullptr, y));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure) << message;
  EXPECT_NE(std::strstr(carillon_emulation_message(), message), nullptr) << carillon_emulation_message();
  // The error persists, as on a device, until the process ends (here: until the devices are reset).
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaMalloc(&y, 4), cudaErrorLaunchFailure);
}

TEST_F(Kernels, StopWithAMessage) {
  expect_stop(returns_before_shuffle, "31 of the warp's 32 lanes only");
  expect_stop(barrier_in_branch, "different barriers");
  expect_stop(barrier_for_some, "is reached by 40 of 128 threads only");
  expect_stop(different_operations, "different operations");
  expect_stop(never_waits, "never waited for");
  expect_stop(half_mask, "full masks only");
  expect_stop(overruns_shared, "shared memory was written at byte 1024");
  expect_stop(misaligned_copy, "not 16-byte aligned");
  expect_stop(misaligned_ldmatrix, "not 16-byte aligned");
  expect_stop(ldmatrix_outside, "outside the block's 1024 bytes");
}

// ---- shuffles, indices, banks, bfloat16 ----------------------------------------------------------------------------
__global__ void shuffles(int* y) {
  const int lane = static_cast<int>(threadIdx.x), value = 10 * lane;
  int* mine = y + lane * 6;
  mine[0] = __shfl_xor_sync(kAll, value, 5);
  mine[1] = __shfl_down_sync(kAll, value, 3);
  mine[2] = __shfl_up_sync(kAll, value, 3);
  mine[3] = __shfl_sync(kAll, value, 7);
  mine[4] = __shfl_down_sync(kAll, value, 2, 4);
  mine[5] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
}

TEST_F(Kernels, Shuffles) {
  int* y = on_device(std::vector<int>(32 * 6));
  ASSERT_CUDA(run(shuffles, 1, 32, 0, nullptr, y));
  const std::vector<int> got = to_host(y, 32 * 6);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; lane += 3) ballot |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane) {
    const int* mine = got.data() + lane * 6;
    EXPECT_EQ(mine[0], 10 * (lane ^ 5));
    EXPECT_EQ(mine[1], 10 * (lane + 3 < 32 ? lane + 3 : lane));
    EXPECT_EQ(mine[2], 10 * (lane >= 3 ? lane - 3 : lane));
    EXPECT_EQ(mine[3], 70);
    EXPECT_EQ(mine[4], 10 * (lane % 4 < 2 ? lane + 2 : lane));
    EXPECT_EQ(static_cast<unsigned>(mine[5]), ballot);
  }
}

// Three dimensions of threads and blocks, numbered as the Programming Guide says.
__global__ void places(int* y) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  y[block * 24 + thread] = static_cast<int>(block * 1000 + thread);
}

TEST_F(Kernels, Places) {
  for (const char* order : {"order=ascending", "order=descending"}) {
    use_mode(order);
    int* y = on_device(std::vector<int>(24 * 24));
    ASSERT_CUDA(run(places, dim3(2, 3, 4), dim3(4, 3, 2), 0, nullptr, y));
    const std::vector<int> got = to_host(y, 24 * 24);
    for (int i = 0; i < 24 * 24; ++i) EXPECT_EQ(got[static_cast<std::size_t>(i)], i / 24 * 1000 + i % 24);
  }
}

// Rows of 128 bytes, read eight at a time; without a swizzle all are in the same banks.
template <bool kSwizzled>
__global__ void reads_column(float* y) {
  const unsigned lane = threadIdx.x, row = lane % 8 + 8 * (lane / 16), chunk = lane / 8 % 2;
  uint32_t out[4];
  ldmatrix_x4(out, shared_memory + row * 128 + (kSwizzled ? chunk ^ (row & 7) : chunk) * 16);
  if (lane == 0) y[0] = static_cast<float>(out[0]);
}

TEST_F(Kernels, BankConflictsAreCounted) {
  float* y = on_device(std::vector<float>(1));
  CarillonEmulationCounters counters;
  ASSERT_CUDA(run(reads_column<true>, 1, 32, 4096, nullptr, y));
  ASSERT_CUDA(cudaDeviceSynchronize());
  carillon_emulation_counters(&counters);
  EXPECT_EQ(counters.ldmatrix_phases, 4u);
  EXPECT_EQ(counters.ldmatrix_conflicts, 0u);
  ASSERT_CUDA(run(reads_column<false>, 1, 32, 4096, nullptr, y));
  ASSERT_CUDA(cudaDeviceSynchronize());
  carillon_emulation_counters(&counters);
  EXPECT_EQ(counters.ldmatrix_conflicts, 4u * 7u);
}

__global__ void reads_shared(float* y) { y[threadIdx.x] = reinterpret_cast<float*>(shared_memory)[threadIdx.x]; }

TEST_F(Kernels, UnwrittenSharedMemoryIsNaN) {
  float* y = on_device(std::vector<float>(kThreads));
  for (int time = 0; time < 2; ++time) {
    ASSERT_CUDA(run(reads_shared, 3, kThreads, 512, nullptr, y));
    for (const float value : to_host(y, kThreads)) EXPECT_TRUE(std::isnan(value));
  }
}

TEST_F(Kernels, LaunchLimits) {
  float* y = on_device(std::vector<float>(kThreads));
  EXPECT_EQ(run(reads_shared, 0, kThreads, 512, nullptr, y), cudaErrorInvalidConfiguration);
  EXPECT_EQ(run(reads_shared, 1, 1025, 512, nullptr, y), cudaErrorInvalidConfiguration);
  EXPECT_EQ(run(reads_shared, dim3(1, 65536), 32, 512, nullptr, y), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(run(reads_shared, 1, kThreads, 64 * 1024, nullptr, y), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFuncSetAttribute(reads_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024));
  EXPECT_CUDA(run(reads_shared, 1, kThreads, 64 * 1024, nullptr, y));
  EXPECT_EQ(cudaFuncSetAttribute(reads_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024),
            cudaErrorInvalidValue);
  EXPECT_CUDA(cudaDeviceSynchronize());
}

// All 65 536 bfloat16 values survive a round trip; ties go to even, NaN stays NaN.
TEST(Bfloat16, RoundTripAndTies) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(bits)));
    const unsigned back = __bfloat16_as_ushort(__float2bfloat16_rn(value));
    EXPECT_EQ(back, std::isnan(value) ? 0x7fffu : bits);
  }
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(0x3f808000))), 0x3f80);  // a tie: to even
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(0x3f818000))), 0x3f82);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(0x3f808001))), 0x3f81);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(0x7f7fffff))), 0x7f80);  // beyond the largest
}

TEST(Exp2, FlushesDenormals) {
  EXPECT_EQ(exp2_fast(-INFINITY), 0.0f);
  EXPECT_EQ(exp2_fast(-127.0f), 0.0f);
  EXPECT_EQ(exp2_fast(-126.0f), std::ldexp(1.0f, -126));
  EXPECT_EQ(exp2_fast(1e-40f), 1.0f);
  EXPECT_TRUE(std::isnan(exp2_fast(NAN)));
}

}  // namespace
}  // namespace carillon_emulation
