// Attention's backward pass in bfloat16 on tensor cores, from the final log-sum-exp (Dao, "FlashAttention-2", 2023,
// algorithm 2, cut in two). With p = exp(score - lse): dv += pᵀ·dout, ds = p·(dout·vᵀ - delta), dk += dsᵀ·q, dq +=
// ds·k.
//
// There are two kernels, each of which owns what it adds to: one block per 64 keys of a key/value head sums dk and dv
// over all rows and all query heads of its group; one block per 64 queries of a head sums dq over all keys. Scores and
// dout·vᵀ are therefore computed twice, 7 products instead of 5: the price of sums in a fixed order without atomics or
// a workspace quadratic in the length. In the first kernel keys are the rows of the products (pᵀ, dsᵀ), so that in both
// kernels the weights stay in registers from one product to the next.
//
// The longest blocks go first, as in the forward pass: with a causal mask the first keys are seen by the most rows.
#include "runtime/cuda/attention/attention_interval.h"
#include "runtime/cuda/attention/attention_tile.h"
#include "runtime/cuda/attention/attention_turn.h"

namespace carillon::cuda {
namespace {

// The number subtracted in exp2 for a row: its lse in powers of two; +inf for a row that saw no key or does not exist,
// so that its exponentials are 0.
__device__ __forceinline__ float reference_of(const float* lse, int row, int rows) {
  if (row >= rows) return INFINITY;
  const float value = lse[row];
  return value == -INFINITY ? INFINITY : value * kLog2E;
}

// A row's rounded results in this lane.
template <int kWidth>
__device__ __forceinline__ void store_result(__nv_bfloat16* to, const float (&d)[kWidth / 8][4], int half,
                                             float factor) {
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n)
    *reinterpret_cast<uint32_t*>(to + 8 * n) = pack(d[n][2 * half] * factor, d[n][2 * half + 1] * factor);
}

// This lane's two rows of a view, `row` and 8 below it, of `rows`: they are turned back once the row's four lanes have
// written them.
__device__ __forceinline__ void turn_results(const AttentionTurn& turn, const HeadsView& x, int64_t batch, int head,
                                             int row, int rows) {
  if (turn.position == nullptr) return;
  if (!kBroken<InjectedFault::kTurnNotWaitedFor>) __syncwarp();
  for (int r = row; r <= row + 8 && r < rows; r += 8)
    turn_back(turn, static_cast<__nv_bfloat16*>(x.data) + batch * x.batch + head * x.head + r * x.token,
              batch * rows + r, lane_id() % 4, 4);
}

// The row sums dout · out of this lane's two rows, formed by the four lanes that share them.
template <int kWidth>
__device__ __forceinline__ void form_deltas(float (&delta)[2], const AttentionBackward& args, int64_t batch, int head,
                                            int row) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t r = row + 8 * half;
    const bool inside = r < args.problem.rows;
    float sum = 0;
    if (inside) {
      const auto row_of = [&](const HeadsView& x) {
        return static_cast<const __nv_bfloat16*>(x.data) + batch * x.batch + head * x.head + r * x.token +
               2 * (lane_id() % 4);
      };
      const __nv_bfloat16 *const dout = row_of(args.dout), *const out = row_of(args.out);
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        const auto a = Pack<__nv_bfloat16, 2>::load(dout + 8 * n), b = Pack<__nv_bfloat16, 2>::load(out + 8 * n);
        for (int i = 0; i < 2; ++i) sum += __bfloat162float(a.value[i]) * __bfloat162float(b.value[i]);
      }
    }
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    delta[half] = sum;
    if (inside && lane_id() % 4 == 0)
      static_cast<float*>(args.delta.data)[batch * args.delta.batch + head * args.delta.head + r] = sum;
  }
}

// to[kWidth] = factor · a row's part in this lane, or += that.
template <int kWidth>
__device__ __forceinline__ void add_row(float* to, const float (&d)[kWidth / 8][4], int half, float factor,
                                        bool first) {
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
    float2* const pair = reinterpret_cast<float2*>(to + 8 * n);
    const float2 before = first ? make_float2(0, 0) : *pair;
    *pair = make_float2(before.x + d[n][2 * half] * factor, before.y + d[n][2 * half + 1] * factor);
  }
}

// ---- dk and dv -----------------------------------------------------------------------------------------------------
// Queries per tile: with two sums of 64 x 128, registers do not suffice for 64.
template <int kWidth>
constexpr int kQueries = kWidth == 64 ? 64 : 32;

template <int kWidth>
struct KeysShared {
  static constexpr int kOwn = kRows * kWidth;              // elements: keys at 0, values at kOwn
  static constexpr int kTile = kQueries<kWidth> * kWidth;  // stage s: queries at 2·kOwn + 2s·kTile, dout after them
  static constexpr int kStatistics = (2 * kOwn + 4 * kTile) * 2;  // byte offset; stage s: references, deltas
  static constexpr int kBounds = kStatistics + 4 * kQueries<kWidth> * static_cast<int>(sizeof(float));
  static constexpr int kBytes = kBounds + kRows * static_cast<int>(sizeof(Interval));
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) keys_kernel(const __grid_constant__ AttentionBackward args) {
  constexpr int kTileRows = kQueries<kWidth>;
  const AttentionProblem& p = args.problem;
  const int rows = static_cast<int>(p.rows), keys = static_cast<int>(p.keys);
  const int pairs = p.kv_heads * static_cast<int>(p.batch), group = p.heads / p.kv_heads;
  const int index = static_cast<int>(blockIdx.x);
  const int key0 = index / pairs * kRows;
  const int kv_head = index % pairs % p.kv_heads;
  const int64_t batch = index % pairs / p.kv_heads;

  __nv_bfloat16* const own = reinterpret_cast<__nv_bfloat16*>(shared_memory);
  constexpr int kOwn = KeysShared<kWidth>::kOwn, kTile = KeysShared<kWidth>::kTile;
  __nv_bfloat16* const stages = own + 2 * kOwn;
  float* const statistics = reinterpret_cast<float*>(shared_memory + KeysShared<kWidth>::kStatistics);
  Interval* const bounds = reinterpret_cast<Interval*>(shared_memory + KeysShared<kWidth>::kBounds);

  const int thread = static_cast<int>(threadIdx.x);
  const int mine = key0 + thread / 2 < keys ? key0 + thread / 2 : keys - 1;
  reinterpret_cast<int*>(bounds)[thread] = row_bound(p, batch, mine, thread % 2 == 1);
  __syncthreads();
  const TileRange range = tiles_of(bounds[0], bounds[kRows - 1], kTileRows);
  const bool some = range.begin < range.end;
  if (!some && !args.first_keys) return;
  const int lane = lane_id(), warp_row = thread / 32 * 16, row = warp_row + lane / 4;
  const Interval visible[2] = {bounds[row], bounds[row + 8]};

  if (some) {
    copy_tile<kWidth, kRows>(
        own, static_cast<const __nv_bfloat16*>(p.k.data) + batch * p.k.batch + kv_head * p.k.head + key0 * p.k.token,
        static_cast<int>(p.k.token), keys - key0);
    copy_tile<kWidth, kRows>(
        own + kOwn,
        static_cast<const __nv_bfloat16*>(p.v.data) + batch * p.v.batch + kv_head * p.v.head + key0 * p.v.token,
        static_cast<int>(p.v.token), keys - key0);
  }
  const __nv_bfloat16* const q = static_cast<const __nv_bfloat16*>(p.q.data) + batch * p.q.batch;
  const __nv_bfloat16* const dout = static_cast<const __nv_bfloat16*>(args.dout.data) + batch * args.dout.batch;
  const float* const lse = static_cast<const float*>(args.lse.data) + batch * args.lse.batch;
  const float* const delta = static_cast<const float*>(args.delta.data) + batch * args.delta.batch;
  const auto copy_queries = [&](int stage, int head, int tile) {
    const int64_t first_row = static_cast<int64_t>(tile) * kTileRows;
    __nv_bfloat16* const to = stages + stage * 2 * kTile;
    copy_tile<kWidth, kTileRows>(to, q + head * p.q.head + first_row * p.q.token, static_cast<int>(p.q.token),
                                 rows - tile * kTileRows);
    copy_tile<kWidth, kTileRows>(to + kTile, dout + head * args.dout.head + first_row * args.dout.token,
                                 static_cast<int>(args.dout.token), rows - tile * kTileRows);
    copy_async_commit();
  };
  // The first kTileRows threads load the references of the rows, the next kTileRows threads their deltas.
  const auto statistic_of = [&](int head, int tile) {
    const int r = tile * kTileRows + thread % kTileRows;
    if (thread < kTileRows) return reference_of(lse + head * args.lse.head, r, rows);
    return thread < 2 * kTileRows && r < rows ? delta[head * args.delta.head + r] : 0.0f;
  };
  const auto keep_statistic = [&](int stage, float value) {
    if (thread < 2 * kTileRows) statistics[stage * 2 * kTileRows + thread] = value;
  };

  // All query heads of the group, tile by tile.
  const int last_tile = range.end - 1 - (kBroken<InjectedFault::kLastFoldDropped> ? 1 : 0);
  int head = kv_head * group, tile = range.begin, stage = 0;
  const int head_end = some ? head + group : head;
  if (some) {
    copy_queries(0, head, tile);
    keep_statistic(0, statistic_of(head, tile));
  }

  float dk[kWidth / 8][4], dv[kWidth / 8][4];
  clear(dk);
  clear(dv);
  const float to_power = static_cast<float>(p.scale) * kLog2E;
  while (head < head_end) {
    const int next_tile = tile < last_tile ? tile + 1 : range.begin;
    const int next_head = tile < last_tile ? head : head + 1;
    if (kBroken<InjectedFault::kBufferFreedTooEarly> && next_head < head_end)
      copy_queries(stage ^ 1, next_head, next_tile);
    wait_for_copies();
    barrier<InjectedFault::kBarrierRemoved>();  // this tile is visible to all, and the other stage is free
    float next_statistic = 0;
    if (next_head < head_end) {
      if (!kBroken<InjectedFault::kBufferFreedTooEarly>) copy_queries(stage ^ 1, next_head, next_tile);
      next_statistic = statistic_of(next_head, next_tile);
    }
    const __nv_bfloat16* const queries = stages + stage * 2 * kTile;
    const float* const reference = statistics + stage * 2 * kTileRows + 2 * (lane % 4);

    float weight[kTileRows / 8][4];
    clear(weight);
    multiply_rows<kWidth>(weight, own, warp_row, queries);
    const bool full = tile >= range.full_begin && tile < range.full_end;
    const int column = tile * kTileRows + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < kTileRows / 8; ++n) {
      const float2 pair = *reinterpret_cast<const float2*>(reference + 8 * n);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        weight[n][e] = exp2_fast(fmaf(weight[n][e], to_power, e % 2 == 0 ? -pair.x : -pair.y));
    }
    if (!full) {
#pragma unroll
      for (int n = 0; n < kTileRows / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int r = column + 8 * n + (e & 1);
          if (r < visible[e >> 1].begin || r >= visible[e >> 1].end) weight[n][e] = 0;
        }
    }
    uint32_t packed[kTileRows / 16][4];
    pack_rows<kTileRows / 8>(packed, weight);
    multiply_columns<kWidth, kTileRows / 16>(dv, packed, queries + kTile);

    float ds[kTileRows / 8][4];
    clear(ds);
    multiply_rows<kWidth>(ds, own + kOwn, warp_row, queries + kTile);
#pragma unroll
    for (int n = 0; n < kTileRows / 8; ++n) {
      const float2 pair = *reinterpret_cast<const float2*>(reference + kTileRows + 8 * n);
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[n][e] = weight[n][e] * (ds[n][e] - (e % 2 == 0 ? pair.x : pair.y));
    }
    pack_rows<kTileRows / 8>(packed, ds);
    multiply_columns<kWidth, kTileRows / 16>(dk, packed, queries);

    stage ^= 1;
    keep_statistic(stage, next_statistic);
    head = next_head;
    tile = next_tile;
  }
  finish_copies();

  if (args.result_dk.data != nullptr) {
    const auto row_of = [&](const HeadsView& x, int64_t key) {
      return static_cast<__nv_bfloat16*>(x.data) + batch * x.batch + kv_head * x.head + key * x.token + 2 * (lane % 4);
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t key = key0 + row + 8 * half;
      if (key >= keys) continue;
      store_result<kWidth>(row_of(args.result_dk, key), dk, half, static_cast<float>(p.scale));
      store_result<kWidth>(row_of(args.result_dv, key), dv, half, 1.0f);
    }
    turn_results(args.turn, args.result_dk, batch, kv_head, key0 + row, keys);
    return;
  }
  float* const to_dk = static_cast<float*>(args.dk.data) + batch * args.dk.batch + kv_head * args.dk.head;
  float* const to_dv = static_cast<float*>(args.dv.data) + batch * args.dv.batch + kv_head * args.dv.head;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t key = key0 + row + 8 * half;
    if (key >= keys) continue;
    add_row<kWidth>(to_dk + key * args.dk.token + 2 * (lane % 4), dk, half, static_cast<float>(p.scale),
                    args.first_keys);
    add_row<kWidth>(to_dv + key * args.dv.token + 2 * (lane % 4), dv, half, 1.0f, args.first_keys);
  }
}

// ---- dq ------------------------------------------------------------------------------------------------------------
// Keys are needed to the end of a tile and have two stages; values are needed only in its first half and have one.
template <int kWidth>
struct QueriesShared {
  static constexpr int kTile = kRows * kWidth;   // elements: queries, dout, values, keys of stage 0 and 1
  static constexpr int kBounds = 5 * kTile * 2;  // byte offset
  static constexpr int kBytes = kBounds + kRows * static_cast<int>(sizeof(Interval));
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) queries_kernel(const __grid_constant__ AttentionBackward args) {
  constexpr int kKeys = 64;  // of a tile
  const AttentionProblem& p = args.problem;
  const int heads = p.heads, rows = static_cast<int>(p.rows), keys = static_cast<int>(p.keys);
  const int tiles = (rows + kRows - 1) / kRows;
  const int pairs = heads * static_cast<int>(p.batch);
  const int index = static_cast<int>(blockIdx.x);
  const int row0 = (tiles - 1 - index / pairs) * kRows;
  const int head = index % pairs % heads, kv_head = head / (heads / p.kv_heads);
  const int64_t batch = index % pairs / heads;

  constexpr int kTile = QueriesShared<kWidth>::kTile;
  __nv_bfloat16* const queries = reinterpret_cast<__nv_bfloat16*>(shared_memory);
  __nv_bfloat16* const dout = queries + kTile;
  __nv_bfloat16* const values = queries + 2 * kTile;
  __nv_bfloat16* const stages = queries + 3 * kTile;
  Interval* const bounds = reinterpret_cast<Interval*>(shared_memory + QueriesShared<kWidth>::kBounds);

  const int thread = static_cast<int>(threadIdx.x);
  const int mine = row0 + thread / 2 < rows ? row0 + thread / 2 : rows - 1;
  reinterpret_cast<int*>(bounds)[thread] = key_bound(p, batch, mine, thread % 2 == 1);
  __syncthreads();
  const TileRange range = tiles_of(bounds[0], bounds[kRows - 1], kKeys);
  const bool some = range.begin < range.end;
  if (!some && !args.first) return;
  const int lane = lane_id(), warp_row = thread / 32 * 16, row = warp_row + lane / 4;
  const Interval visible[2] = {bounds[row], bounds[row + 8]};

  if (some) {
    copy_tile<kWidth, kRows>(
        queries, static_cast<const __nv_bfloat16*>(p.q.data) + batch * p.q.batch + head * p.q.head + row0 * p.q.token,
        static_cast<int>(p.q.token), rows - row0);
    copy_tile<kWidth, kRows>(dout,
                             static_cast<const __nv_bfloat16*>(args.dout.data) + batch * args.dout.batch +
                                 head * args.dout.head + row0 * args.dout.token,
                             static_cast<int>(args.dout.token), rows - row0);
  }
  const __nv_bfloat16* const k = static_cast<const __nv_bfloat16*>(p.k.data) + batch * p.k.batch + kv_head * p.k.head;
  const __nv_bfloat16* const v = static_cast<const __nv_bfloat16*>(p.v.data) + batch * p.v.batch + kv_head * p.v.head;
  const auto copy_keys = [&](int tile) {
    copy_tile<kWidth, kKeys>(stages + (tile - range.begin) % 2 * kTile,
                             k + static_cast<int64_t>(tile) * kKeys * p.k.token, static_cast<int>(p.k.token),
                             keys - tile * kKeys);
    copy_async_commit();
  };
  const auto copy_values = [&](int tile) {
    copy_tile<kWidth, kKeys>(values, v + static_cast<int64_t>(tile) * kKeys * p.v.token, static_cast<int>(p.v.token),
                             keys - tile * kKeys);
    copy_async_commit();
  };
  if (some) {
    copy_keys(range.begin);
    copy_values(range.begin);
  }

  const float* const lse = static_cast<const float*>(args.lse.data) + batch * args.lse.batch + head * args.lse.head;
  const float* const deltas =
      static_cast<const float*>(args.delta.data) + batch * args.delta.batch + head * args.delta.head;
  float reference[2], delta[2];
  if (args.first) form_deltas<kWidth>(delta, args, batch, head, row0 + row);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row0 + row + 8 * half;
    reference[half] = reference_of(lse, r, rows);
    if (!args.first) delta[half] = r < rows ? deltas[r] : 0;
  }

  float dq[kWidth / 8][4];
  clear(dq);
  const float to_power = static_cast<float>(p.scale) * kLog2E;
  for (int tile = range.begin; tile < range.end; ++tile) {
    const bool more = tile + 1 < range.end;
    if (kBroken<InjectedFault::kBufferFreedTooEarly> && more) copy_keys(tile + 1);
    wait_for_copies();
    barrier<InjectedFault::kBarrierRemoved>();  // this tile is visible to all, and the other stage of keys is free
    if (!kBroken<InjectedFault::kBufferFreedTooEarly> && more) copy_keys(tile + 1);
    const __nv_bfloat16* const stage = stages + (tile - range.begin) % 2 * kTile;

    float weight[kKeys / 8][4], ds[kKeys / 8][4];
    clear(ds);
    multiply_rows<kWidth>(ds, dout, warp_row, values);
    barrier<InjectedFault::kSecondBarrierRemoved>();  // the values have been read
    if (more) copy_values(tile + 1);
    clear(weight);
    multiply_rows<kWidth>(weight, queries, warp_row, stage);
    const bool full = tile >= range.full_begin && tile < range.full_end;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        ds[n][e] = exp2_fast(fmaf(weight[n][e], to_power, -reference[e >> 1])) * (ds[n][e] - delta[e >> 1]);
    if (!full) {
      const int column = tile * kKeys + 2 * (lane % 4);
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int key = column + 8 * n + (e & 1);
          if (key < visible[e >> 1].begin || key >= visible[e >> 1].end) ds[n][e] = 0;
        }
    }
    uint32_t packed[kKeys / 16][4];
    pack_rows<kKeys / 8>(packed, ds);
    multiply_columns<kWidth, kKeys / 16>(dq, packed, stage);
  }
  finish_copies();

  if (args.result_dq.data != nullptr) {
    __nv_bfloat16* const to = static_cast<__nv_bfloat16*>(args.result_dq.data) + batch * args.result_dq.batch +
                              head * args.result_dq.head + 2 * (lane % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t r = row0 + row + 8 * half;
      if (r < rows) store_result<kWidth>(to + r * args.result_dq.token, dq, half, static_cast<float>(p.scale));
    }
    turn_results(args.turn, args.result_dq, batch, head, row0 + row, rows);
    return;
  }
  float* const to = static_cast<float*>(args.dq.data) + batch * args.dq.batch + head * args.dq.head + 2 * (lane % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t r = row0 + row + 8 * half;
    if (r < rows) add_row<kWidth>(to + r * args.dq.token, dq, half, static_cast<float>(p.scale), args.first);
  }
}

// tests/cuda/sass_test.py reads these and computes from them how many blocks fit on a multiprocessor.
static_assert(KeysShared<64>::kBytes == 50688);
static_assert(KeysShared<96>::kBytes == 50176);
static_assert(KeysShared<128>::kBytes == 66560);
static_assert(QueriesShared<64>::kBytes == 41472);
static_assert(QueriesShared<96>::kBytes == 61952);
static_assert(QueriesShared<128>::kBytes == 82432);

template <int kWidth>
cudaError_t launch_backward(const AttentionBackward& args, cudaStream_t stream) {
  const AttentionProblem& p = args.problem;
  // The deltas that the first forms the second reads.
  const cudaError_t error = launch_attention(queries_kernel<kWidth>, (p.rows + kRows - 1) / kRows * p.heads * p.batch,
                                             kThreads, QueriesShared<kWidth>::kBytes, args, stream);
  if (error != cudaSuccess) return error;
  return launch_attention(keys_kernel<kWidth>, (p.keys + kRows - 1) / kRows * p.kv_heads * p.batch, kThreads,
                          KeysShared<kWidth>::kBytes, args, stream);
}

}  // namespace

cudaError_t launch_attention_backward(const AttentionBackward& args, cudaStream_t stream) {
  const AttentionProblem& p = args.problem;
  if (p.rows == 0 || p.keys == 0 || p.batch == 0 || p.heads == 0) return cudaSuccess;
  bool pairs = takes_pairs(args.dq) && takes_pairs(args.dk) && takes_pairs(args.dv);
  for (const HeadsView* x : {&args.out, &args.result_dq, &args.result_dk, &args.result_dv})
    pairs = pairs && takes_pairs(*x, 2);
  if (!tensor_cores_take(p) || !takes_copies(args.dout) || !pairs)
    return launch_attention_backward_general(args, stream);
  if (p.head_size == 64) return launch_backward<64>(args, stream);
  if (p.head_size == 96) return launch_backward<96>(args, stream);
  return launch_backward<128>(args, stream);
}

}  // namespace carillon::cuda
