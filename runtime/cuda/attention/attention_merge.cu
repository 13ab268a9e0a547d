// Folds a block of keys that another engine has computed into the running state. With m, s and a the state's maximum,
// sum and accumulator,
//   m' = max(m, lse), s' = s·exp(m - m') + exp(lse - m'), a' = a·exp(m - m') + out·exp(lse - m'),
// all in float32. The engine's out is rounded to bfloat16, so a ring of W hops rounds W times, where the native kernels
// round once. Memory-bound; one warp per row.
#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

constexpr int kRows = 8;  // rows per block, one warp each

struct MergeArgs {
  AttentionMerge merge;
  int64_t count;  // B·Tq·NH
};

template <int kPack>
__global__ void merge_kernel(const __grid_constant__ MergeArgs args) {
  const AttentionMerge& merge = args.merge;
  const int64_t index =
      (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kRows + static_cast<int>(threadIdx.x / 32);
  if (index >= args.count) return;  // a whole warp at a time
  const int64_t head = index % merge.shape.heads, row = index / merge.shape.heads;
  const int64_t batch = row / merge.shape.rows, token = row % merge.shape.rows;

  float* const maximum =
      static_cast<float*>(merge.maximum.data) + batch * merge.maximum.batch + head * merge.maximum.head + token;
  float* const sum = static_cast<float*>(merge.sum.data) + batch * merge.sum.batch + head * merge.sum.head + token;
  float lse = static_cast<const float*>(merge.lse.data)[batch * merge.lse.batch + head * merge.lse.head + token];
  if (kBroken<InjectedFault::kMergeWrongSign>) lse = -lse;
  const bool empty = merge.first[batch * merge.first_batch + token] > merge.query_index[token] ||
                     lse == -static_cast<float>(INFINITY) || kBroken<InjectedFault::kMergeLeftOut>;
  const float old_maximum = *maximum, old_sum = *sum;
  const float reference = old_sum == 0 || lse > old_maximum ? lse : old_maximum;
  // The accumulator of an empty state is uninitialised and not read.
  const float keep = old_sum == 0                                ? 0
                     : kBroken<InjectedFault::kMergeNotRescaled> ? 1.0f
                                                                 : exponential(old_maximum - reference);
  const float take = exponential(lse - reference);
  if (!kBroken<InjectedFault::kMergeWarpNotWaitedFor>)
    __syncwarp();  // all lanes must have loaded what the first one overwrites
  if (empty) return;
  if (threadIdx.x % 32 == 0) {
    *maximum = reference;
    *sum = old_sum * keep + take;
  }
  float* const to = static_cast<float*>(merge.accumulator.data) + batch * merge.accumulator.batch +
                    token * merge.accumulator.token + head * merge.accumulator.head;
  const __nv_bfloat16* const from = static_cast<const __nv_bfloat16*>(merge.out.data) + batch * merge.out.batch +
                                    token * merge.out.token + head * merge.out.head;
  for (int pack = static_cast<int>(threadIdx.x % 32); pack < merge.shape.head_size / kPack; pack += 32) {
    const auto out = Pack<__nv_bfloat16, kPack>::load(from + pack * kPack);
    Pack<float, kPack> sums{};
    if (old_sum != 0) sums = Pack<float, kPack>::load(to + pack * kPack);
    for (int i = 0; i < kPack; ++i)
      sums.value[i] = (old_sum == 0 ? 0.0f : sums.value[i] * keep) + take * convert<float>(out.value[i]);
    sums.store(to + pack * kPack);
  }
}

bool fours(const HeadsView& x, int head_size, size_t bytes) {
  return head_size % 4 == 0 && packs(x.data, x.batch, 4, bytes) && packs(x.data, x.token, 4, bytes) &&
         packs(x.data, x.head, 4, bytes);
}

}  // namespace

cudaError_t launch_attention_merge(const AttentionMerge& merge, cudaStream_t stream) {
  if (merge.shape.type != Type::kBFloat16) return cudaErrorInvalidValue;
  const MergeArgs args{merge, merge.shape.batch * merge.shape.rows * merge.shape.heads};
  const int64_t blocks = divide_up(args.count, kRows), most = 1 << 30;
  const bool wide = fours(merge.out, merge.shape.head_size, 2) && fours(merge.accumulator, merge.shape.head_size, 4);
  return launch(wide ? merge_kernel<4> : merge_kernel<1>, blocks < most ? blocks : most, divide_up(blocks, most),
                kRows * 32, 0, stream, args);
}

}  // namespace carillon::cuda
