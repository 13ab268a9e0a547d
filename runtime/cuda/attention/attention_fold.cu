// For one block of another engine's backward pass (fused_attention.h): prepares the log-sum-exp of its rows as the
// engine needs it, and adds its gradients to the accumulators, dk and dv from bfloat16. Memory-bound; one launch each.
#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/attention/attention_turn.h"
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

// A row that sees no key has log-sum-exp -inf, from which an engine would compute exp(score + inf). This number instead
// gives exp(-1e30) = 0 for every key; it is finite, so no intermediate result becomes NaN.
constexpr float kNoWeight = 1e30f;

struct RowsLseArgs {
  AttentionRowsLse rows;
  RowGrid grid;
};
__global__ void rows_lse_kernel(const __grid_constant__ RowsLseArgs args) {
  const AttentionRowsLse& rows = args.rows;
  for (RowGrid::Place at = args.grid.first(); at.row < args.grid.rows; at.row += at.step) {
    const int64_t batch = at.row / rows.shape.heads, head = at.row % rows.shape.heads, token = at.pack;
    const float lse = static_cast<const float*>(rows.lse.data)[batch * rows.lse.batch + head * rows.lse.head + token];
    const bool empty =
        rows.first[batch * rows.first_batch + token] > rows.query_index[token] || lse == -static_cast<float>(INFINITY);
    rows.packed[at.row * rows.shape.rows + token] = empty && !kBroken<InjectedFault::kEmptyRowWeighs> ? kNoWeight : lse;
  }
}

constexpr int kRows = 8;  // rows per block, one warp each

struct FoldArgs {
  AttentionFold fold;
  int64_t queries, keys;  // rows of dq, and of dk and of dv: tokens and heads
};

template <int kPack, class T>
__device__ __forceinline__ void add_row(const HeadsView& to, const HeadsView& from, int64_t row, int64_t tokens,
                                        int heads, int head_size, bool rounded, const AttentionTurn& turn) {
  const int64_t head = row % heads, token = row / heads % tokens, batch = row / heads / tokens;
  const int64_t place = batch * to.batch + token * to.token + head * to.head;
  float* const sum = static_cast<float*>(to.data) + place;
  const T* const part = static_cast<const T*>(from.data) + batch * from.batch + token * from.token + head * from.head;
  for (int pack = static_cast<int>(threadIdx.x % 32); pack < head_size / kPack; pack += 32) {
    const auto added = Pack<T, kPack>::load(part + pack * kPack);
    if (rounded) {
      Pack<__nv_bfloat16, kPack> result;
      for (int i = 0; i < kPack; ++i) result.value[i] = convert<__nv_bfloat16>(added.value[i]);
      result.store(static_cast<__nv_bfloat16*>(to.data) + place + pack * kPack);
      continue;
    }
    auto sums = Pack<float, kPack>::load(sum + pack * kPack);
    for (int i = 0; i < kPack; ++i)
      sums.value[i] = (kBroken<InjectedFault::kFoldOverwrites> ? 0.0f : sums.value[i]) + convert<float>(added.value[i]);
    sums.store(sum + pack * kPack);
  }
  if (!rounded || turn.position == nullptr) return;
  if (!kBroken<InjectedFault::kTurnNotWaitedFor>) __syncwarp();  // lanes turn what others wrote
  turn_back(turn, static_cast<__nv_bfloat16*>(to.data) + place, batch * tokens + token,
            static_cast<int>(threadIdx.x % 32), 32);
}

template <int kPack>
__global__ void fold_kernel(const __grid_constant__ FoldArgs args) {
  const AttentionFold& fold = args.fold;
  const int64_t index =
      (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kRows + static_cast<int>(threadIdx.x / 32);
  if (index < args.queries)
    add_row<kPack, float>(fold.dq, fold.block_dq, index, fold.rows, fold.heads, fold.head_size, fold.rounded,
                          fold.turn);
  else if (index < args.queries + args.keys) {
    if (!kBroken<InjectedFault::kFoldKeysLeftOut>)
      add_row<kPack, __nv_bfloat16>(fold.dk, fold.block_dk, index - args.queries, fold.keys, fold.kv_heads,
                                    fold.head_size, fold.rounded, fold.turn);
  } else if (index < args.queries + 2 * args.keys)
    add_row<kPack, __nv_bfloat16>(fold.dv, fold.block_dv, index - args.queries - args.keys, fold.keys, fold.kv_heads,
                                  fold.head_size, fold.rounded, {});
}

bool fours(const HeadsView& x, int head_size, size_t bytes) {
  return head_size % 4 == 0 && packs(x.data, x.batch, 4, bytes) && packs(x.data, x.token, 4, bytes) &&
         packs(x.data, x.head, 4, bytes);
}

}  // namespace

cudaError_t launch_attention_rows_lse(const AttentionRowsLse& rows, cudaStream_t stream) {
  const RowGrid grid(rows.shape.batch * rows.shape.heads, rows.shape.rows);
  return launch(rows_lse_kernel, grid, stream, RowsLseArgs{rows, grid});
}

cudaError_t launch_attention_fold(const AttentionFold& fold, cudaStream_t stream) {
  const FoldArgs args{fold, fold.batch * fold.rows * fold.heads, fold.batch * fold.keys * fold.kv_heads};
  const int64_t blocks = divide_up(args.queries + 2 * args.keys, kRows), most = 1 << 30;
  bool wide = true;
  for (const HeadsView* x : {&fold.dq, &fold.dk, &fold.dv})
    wide = wide && fours(*x, fold.head_size, fold.rounded ? 2 : 4);
  wide = wide && fours(fold.block_dq, fold.head_size, 4);
  for (const HeadsView* x : {&fold.block_dk, &fold.block_dv}) wide = wide && fours(*x, fold.head_size, 2);
  return launch(wide ? fold_kernel<4> : fold_kernel<1>, blocks < most ? blocks : most, divide_up(blocks, most),
                kRows * 32, 0, stream, args);
}

}  // namespace carillon::cuda
