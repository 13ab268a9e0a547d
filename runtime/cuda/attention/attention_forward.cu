// Attention's forward pass in bfloat16 on tensor cores (online softmax: Milakov and Gimelshein, 2018; tiles: Dao,
// "FlashAttention-2", 2023): folds one block of keys into the running state in float32.
//
// A block processes 64 query rows of one head with 4 warps of 16 rows; the rows stay in registers as fragments. Keys
// and values come in tiles of 64 through two stages of shared memory, with one barrier per tile. After the barrier the
// tile is present and the other stage is free, so the next copy starts at once and is in flight during the whole tile.
// Scores, their exponentials and the output never leave registers.
//
// The longest blocks go first: with a causal mask the last rows see the most keys, so the blocks of the last rows start
// first, over all heads. README.md lists registers, shared memory and instructions by architecture.
#include "runtime/cuda/attention/attention_interval.h"
#include "runtime/cuda/attention/attention_tile.h"

namespace carillon::cuda {
namespace {

constexpr int kKeys = 64;  // of a tile

template <int kWidth>
struct ForwardShared {
  static constexpr int kTile = kKeys * kWidth;  // elements
  // Stage s: keys at 2s·kTile, values after them. The queries arrive in stage 1 and are loaded into registers before
  // the first tile is copied there.
  static constexpr int kBounds = 4 * kTile * 2;  // byte offset of the rows' intervals
  static constexpr int kBytes = kBounds + kRows * static_cast<int>(sizeof(Interval));
};

// tests/cuda/sass_test.py reads these and computes from them how many blocks fit on a multiprocessor.
static_assert(ForwardShared<64>::kBytes == 33280);
static_assert(ForwardShared<96>::kBytes == 49664);
static_assert(ForwardShared<128>::kBytes == 66048);

// Masks scores outside the rows' intervals of visible keys; first_key is the tile's first key.
__device__ __forceinline__ void mask_scores(float (&score)[kKeys / 8][4], const Interval (&visible)[2], int first_key) {
  const int column = first_key + 2 * (lane_id() % 4);
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = column + 8 * n + (e & 1);
      if (key < visible[e >> 1].begin || key >= visible[e >> 1].end) score[n][e] = -INFINITY;
    }
}

// The number of blocks per multiprocessor that registers should allow: at most 168 or 255 registers per thread.
template <int kWidth>
constexpr int kResident = kWidth == 64 ? 3 : 2;

template <int kWidth>
__global__ void __launch_bounds__(kThreads, kResident<kWidth>)
    forward_kernel(const __grid_constant__ AttentionForward args) {
  const AttentionProblem& p = args.problem;
  const int heads = p.heads, rows = static_cast<int>(p.rows), keys = static_cast<int>(p.keys);
  const int tiles = (rows + kRows - 1) / kRows;
  const int pairs = heads * static_cast<int>(p.batch);
  const int index = static_cast<int>(blockIdx.x);
  const int row0 = (tiles - 1 - index / pairs) * kRows;
  const int head = index % pairs % heads, kv_head = head / (heads / p.kv_heads);
  const int64_t batch = index % pairs / heads;

  __nv_bfloat16* const stages = reinterpret_cast<__nv_bfloat16*>(shared_memory);
  constexpr int kTile = ForwardShared<kWidth>::kTile;
  Interval* const bounds = reinterpret_cast<Interval*>(shared_memory + ForwardShared<kWidth>::kBounds);
  const __nv_bfloat16* const q =
      static_cast<const __nv_bfloat16*>(p.q.data) + batch * p.q.batch + head * p.q.head + row0 * p.q.token;
  const __nv_bfloat16* const k = static_cast<const __nv_bfloat16*>(p.k.data) + batch * p.k.batch + kv_head * p.k.head;
  const __nv_bfloat16* const v = static_cast<const __nv_bfloat16*>(p.v.data) + batch * p.v.batch + kv_head * p.v.head;
  copy_tile<kWidth, kRows>(stages + 2 * kTile, q, static_cast<int>(p.q.token), rows - row0);
  copy_async_commit();

  // Two threads per row find its interval. Rows beyond the last get the last row's, so that both ends of the block are
  // valid.
  const int thread = static_cast<int>(threadIdx.x);
  const int mine = row0 + thread / 2 < rows ? row0 + thread / 2 : rows - 1;
  reinterpret_cast<int*>(bounds)[thread] = key_bound(p, batch, mine, thread % 2 == 1);
  copy_async_wait<0>();
  __syncthreads();
  const TileRange range = tiles_of(bounds[0], bounds[kRows - 1], kKeys);
  const bool some = range.begin < range.end;
  if (!some && !args.first && args.out.data == nullptr) return;

  const auto copy_keys = [&](int tile) {
    __nv_bfloat16* const stage = stages + (tile - range.begin) % 2 * 2 * kTile;
    const int64_t first_key = static_cast<int64_t>(tile) * kKeys;
    copy_tile<kWidth, kKeys>(stage, k + first_key * p.k.token, static_cast<int>(p.k.token), keys - tile * kKeys);
    copy_tile<kWidth, kKeys>(stage + kTile, v + first_key * p.v.token, static_cast<int>(p.v.token),
                             keys - tile * kKeys);
    copy_async_commit();
  };
  if (some) copy_keys(range.begin);

  const int lane = lane_id(), warp_row = thread / 32 * 16, row = warp_row + lane / 4;
  const Interval visible[2] = {bounds[row], bounds[row + 8]};
  uint32_t query[kWidth / 16][4];
  load_rows<kWidth>(query, stages + 2 * kTile, warp_row);

  // The state: maximum of the unscaled scores, this lane's part of the sum (the first lane of the quad starts with the
  // given sum), the output so far.
  const float scale = static_cast<float>(p.scale), to_power = scale * kLog2E;
  float* statistic =
      static_cast<float*>(args.maximum.data) + batch * args.maximum.batch + head * args.maximum.head + row0;
  float* const state_sum = static_cast<float*>(args.sum.data) + batch * args.sum.batch + head * args.sum.head + row0;
  void* results = static_cast<float*>(args.accumulator.data) + batch * args.accumulator.batch +
                  head * args.accumulator.head + 2 * (lane % 4);
  float maximum[2], sum[2], out[kWidth / 8][4];
  clear(out);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row + 8 * half;
    maximum[half] = -INFINITY;
    sum[half] = 0;
    // Of a block of rows that meets no tile the maximum stays as it is, to the bit.
    if (args.first && args.sinks != nullptr) {
      const float sink = __bfloat162float(static_cast<const __nv_bfloat16*>(args.sinks)[head]);
      maximum[half] = some ? sink / scale : sink;
      if (lane % 4 == 0) sum[half] = 1;
    }
    if (args.first || row0 + r >= rows) continue;
    const float before = state_sum[r];
    if (before == 0) continue;  // the accumulator may hold anything
    maximum[half] = some ? statistic[r] / scale : statistic[r];
    if (lane % 4 == 0) sum[half] = before;
    const float* const from = static_cast<const float*>(results) + (row0 + r) * args.accumulator.token;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      const float2 pair = *reinterpret_cast<const float2*>(from + 8 * n);
      out[n][2 * half] = pair.x;
      out[n][2 * half + 1] = pair.y;
    }
  }
  // Where it goes: on in the state, or as the result.
  if (args.out.data != nullptr) {
    statistic = static_cast<float*>(args.lse.data) + batch * args.lse.batch + head * args.lse.head + row0;
    results =
        static_cast<__nv_bfloat16*>(args.out.data) + batch * args.out.batch + head * args.out.head + 2 * (lane % 4);
  }

  for (int tile = range.begin; tile < range.end; ++tile) {
    if (kBroken<InjectedFault::kBufferFreedTooEarly> && tile + 1 < range.end) copy_keys(tile + 1);
    wait_for_copies();
    barrier<InjectedFault::kBarrierRemoved>();  // this tile is visible to all, and the other stage is free
    if (!kBroken<InjectedFault::kBufferFreedTooEarly> && tile + 1 < range.end) copy_keys(tile + 1);
    const __nv_bfloat16* const stage = stages + (tile - range.begin) % 2 * 2 * kTile;

    float score[kKeys / 8][4];
    clear(score);
    multiply_rows<kWidth>(score, query, stage);
    if (tile < range.full_begin || tile >= range.full_end) mask_scores(score, visible, tile * kKeys);

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum[half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) largest = fmaxf(largest, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
      // A row that has seen nothing keeps -inf; its exponentials use reference 0 and are 0.
      const float reference = largest == -INFINITY ? 0.0f : largest * to_power;
      const float shrink = exp2_fast(maximum[half] * to_power - reference);
      maximum[half] = largest;
      sum[half] *= shrink;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          score[n][e] = exp2_fast(fmaf(score[n][e], to_power, -reference));
          sum[half] += score[n][e];
        }
      if (!kBroken<InjectedFault::kAccumulatorNotRescaled>)
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
          out[n][2 * half] *= shrink;
          out[n][2 * half + 1] *= shrink;
        }
    }
    uint32_t weights[kKeys / 16][4];
    pack_rows<kKeys / 8>(weights, score);
    multiply_columns<kWidth, kKeys / 16>(out, weights, stage + kTile);
  }
  finish_copies();

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum[half] += __shfl_xor_sync(kAllLanes, sum[half], 1);
    sum[half] += __shfl_xor_sync(kAllLanes, sum[half], 2);
    const int r = row + 8 * half;
    if (row0 + r >= rows) continue;
    const float scaled = some ? product(maximum[half], scale) : maximum[half];
    if (args.out.data != nullptr) {
      // As finish_kernel, from what the state would hold.
      const float total = sum[half];
      if (lane % 4 == 0) statistic[r] = total == 0 ? -INFINITY : scaled + logarithm(total);
      __nv_bfloat16* const to = static_cast<__nv_bfloat16*>(results) + (row0 + r) * args.out.token;
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n)
        *reinterpret_cast<uint32_t*>(to + 8 * n) =
            total == 0 ? 0u : pack(out[n][2 * half] / total, out[n][2 * half + 1] / total);
      continue;
    }
    if (lane % 4 == 0) {
      statistic[r] = scaled;
      state_sum[r] = sum[half];
    }
    float* const to = static_cast<float*>(results) + (row0 + r) * args.accumulator.token;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n)
      *reinterpret_cast<float2*>(to + 8 * n) = make_float2(out[n][2 * half], out[n][2 * half + 1]);
  }
}

template <int kWidth>
cudaError_t launch_forward(const AttentionForward& args, cudaStream_t stream) {
  const AttentionProblem& p = args.problem;
  return launch_attention(forward_kernel<kWidth>, (p.rows + kRows - 1) / kRows * p.heads * p.batch, kThreads,
                          ForwardShared<kWidth>::kBytes, args, stream);
}

}  // namespace

cudaError_t launch_attention_forward(const AttentionForward& args, cudaStream_t stream) {
  const AttentionProblem& p = args.problem;
  if (p.rows == 0 || p.keys == 0 || p.batch == 0 || p.heads == 0) return cudaSuccess;
  if (!tensor_cores_take(p) || !takes_pairs(args.accumulator) || !takes_pairs(args.out, 2))
    return launch_attention_forward_general(args, stream);
  if (p.head_size == 64) return launch_forward<64>(args, stream);
  if (p.head_size == 96) return launch_forward<96>(args, stream);
  return launch_forward<128>(args, stream);
}

}  // namespace carillon::cuda
