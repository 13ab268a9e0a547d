// Attention's kernels around its blocks of keys: initialising the state, turning it into output and log-sum-exp, and
// the row sums dout · out that the backward pass subtracts. Memory-bound; 16-byte accesses if the rows allow them.
#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

// A row of [B, T, NH], in that order.
struct Row {
  int64_t batch, token, head;
};
__device__ __forceinline__ Row row_of(const AttentionRows& shape, int64_t index) {
  const int64_t token = index / shape.heads;
  return {token / shape.rows, token % shape.rows, index % shape.heads};
}
template <class T>
__device__ __forceinline__ T* elements_of(const HeadsView& x, const Row& row) {
  return static_cast<T*>(x.data) + row.batch * x.batch + row.token * x.token + row.head * x.head;
}
template <class A>
__device__ __forceinline__ A& statistic_of(const StatisticView& x, const Row& row) {
  return static_cast<A*>(x.data)[row.batch * x.batch + row.head * x.head + row.token];
}

struct BeginArgs {
  RowGrid grid;
  int heads;
  StatisticView maximum, sum;
  const void* sinks;  // [heads] of T; null: none
};
template <class A, class T>
__global__ void begin_kernel(const __grid_constant__ BeginArgs args) {
  for (RowGrid::Place at = args.grid.first(); at.row < args.grid.rows; at.row += at.step) {
    const Row row{at.row / args.heads, at.pack, at.row % args.heads};
    const bool sink = args.sinks != nullptr;
    statistic_of<A>(args.maximum, row) =
        sink ? convert<A>(static_cast<const T*>(args.sinks)[row.head]) : -static_cast<A>(INFINITY);
    statistic_of<A>(args.sum, row) = sink ? A(1) : A(0);
  }
}

// One block per head: dsinks −= Σ exp(sink − lse) · delta over all its rows.
struct SinksArgs {
  AttentionRows shape;
  const void* sinks;
  StatisticView lse, delta;
  void* dsinks;
};
constexpr int kSinkThreads = 256;
template <class T>
__global__ void sinks_kernel(const __grid_constant__ SinksArgs args) {
  using A = Accumulate<T>;
  const int64_t head = blockIdx.x, rows = args.shape.batch * args.shape.rows;
  const A sink = convert<A>(static_cast<const T*>(args.sinks)[head]);
  A sum = 0;
  for (int64_t n = threadIdx.x; n < rows; n += kSinkThreads) {
    const Row row{n / args.shape.rows, n % args.shape.rows, head};
    sum += exponential(sink - statistic_of<A>(args.lse, row)) * statistic_of<A>(args.delta, row);
  }
  sum = row_sum(sum, kSinkThreads / 32, reinterpret_cast<A*>(shared_memory));
  if (threadIdx.x == 0) static_cast<A*>(args.dsinks)[head] -= sum;
}

struct FinishArgs {
  RowGrid grid;
  AttentionRows shape;
  HeadsView out, accumulator;
  StatisticView lse, maximum, sum;
};
template <class T, int kPack>
__global__ void finish_kernel(const __grid_constant__ FinishArgs args) {
  using A = Accumulate<T>;
  for (RowGrid::Place at = args.grid.first(); at.row < args.grid.rows; at.row += at.step) {
    const Row row = row_of(args.shape, at.row);
    const A sum = statistic_of<A>(args.sum, row);
    Pack<T, kPack> out;
    if (sum == 0) {
      for (int i = 0; i < kPack; ++i) out.value[i] = convert<T>(A(0));
    } else {
      const auto from = Pack<A, kPack>::load(elements_of<A>(args.accumulator, row) + at.pack * kPack);
      for (int i = 0; i < kPack; ++i) out.value[i] = convert<T>(from.value[i] / sum);
    }
    out.store(elements_of<T>(args.out, row) + at.pack * kPack);
    if (at.pack == 0)
      statistic_of<A>(args.lse, row) =
          sum == 0 ? -static_cast<A>(INFINITY) : statistic_of<A>(args.maximum, row) + logarithm(sum);
  }
}

struct DeltaArgs {
  AttentionRows shape;
  int64_t count;  // B·T·NH
  HeadsView dout, out;
  StatisticView delta;
};
constexpr int kDeltaRows = 8;  // rows per block, one warp each
template <class T, int kPack>
__global__ void delta_kernel(const __grid_constant__ DeltaArgs args) {
  using A = Accumulate<T>;
  const int64_t index =
      (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kDeltaRows + static_cast<int>(threadIdx.x / 32);
  const bool valid = index < args.count;  // the same for the whole warp; all lanes must reach the sum
  const Row row = row_of(args.shape, valid ? index : 0);
  const T* const dout = elements_of<T>(args.dout, row);
  const T* const out = elements_of<T>(args.out, row);
  A sum = 0;
  for (int pack = static_cast<int>(threadIdx.x % 32); pack < args.shape.head_size / kPack; pack += 32) {
    const auto a = Pack<T, kPack>::load(dout + pack * kPack), b = Pack<T, kPack>::load(out + pack * kPack);
    for (int i = 0; i < kPack; ++i) sum += convert<A>(a.value[i]) * convert<A>(b.value[i]);
  }
  sum = warp_sum(sum);
  if (valid && threadIdx.x % 32 == 0) statistic_of<A>(args.delta, row) = sum;
}

template <class T, int kPack>
bool takes(const HeadsView& x, int head_size) {
  return head_size % kPack == 0 && packs(x.data, x.batch, kPack, sizeof(T)) &&
         packs(x.data, x.token, kPack, sizeof(T)) && packs(x.data, x.head, kPack, sizeof(T));
}

}  // namespace

cudaError_t launch_attention_begin(const AttentionRows& shape, StatisticView maximum, StatisticView sum,
                                   const void* sinks, Type sink_type, cudaStream_t stream) {
  const BeginArgs args{RowGrid(shape.batch * shape.heads, shape.rows), shape.heads, maximum, sum, sinks};
  if (shape.type == Type::kFloat64) return launch(begin_kernel<double, double>, args.grid, stream, args);
  return launch(sink_type == Type::kBFloat16 ? begin_kernel<float, __nv_bfloat16> : begin_kernel<float, float>,
                args.grid, stream, args);
}

cudaError_t launch_attention_sinks_backward(const AttentionRows& shape, void* dsinks, const void* sinks,
                                            StatisticView lse, StatisticView delta, cudaStream_t stream) {
  return dispatch_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    return launch(sinks_kernel<T>, shape.heads, 1, kSinkThreads, kSinkThreads / 32 * sizeof(Accumulate<T>), stream,
                  SinksArgs{shape, sinks, lse, delta, dsinks});
  });
}

cudaError_t launch_attention_finish(const AttentionRows& shape, HeadsView out, StatisticView lse, HeadsView accumulator,
                                    StatisticView maximum, StatisticView sum, cudaStream_t stream) {
  return dispatch_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    const bool fours = takes<T, 4>(out, shape.head_size) && takes<Accumulate<T>, 4>(accumulator, shape.head_size);
    const RowGrid grid(shape.batch * shape.rows * shape.heads, shape.head_size / (fours ? 4 : 1));
    const FinishArgs args{grid, shape, out, accumulator, lse, maximum, sum};
    return launch(fours ? finish_kernel<T, 4> : finish_kernel<T, 1>, grid, stream, args);
  });
}

cudaError_t launch_attention_delta(const AttentionRows& shape, StatisticView delta, HeadsView dout, HeadsView out,
                                   cudaStream_t stream) {
  return dispatch_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    const bool fours = takes<T, 4>(dout, shape.head_size) && takes<T, 4>(out, shape.head_size);
    const DeltaArgs args{shape, shape.batch * shape.rows * shape.heads, dout, out, delta};
    const int64_t blocks = divide_up(args.count, kDeltaRows), most = 1 << 30;
    return launch(fours ? delta_kernel<T, 4> : delta_kernel<T, 1>, blocks < most ? blocks : most,
                  divide_up(blocks, most), kDeltaRows * 32, 0, stream, args);
  });
}

}  // namespace carillon::cuda
