// Sums in fixed trees: the sums of squares of tensors, and the sums over runs of rows for the gradients of biases and
// of norms' weights. The order depends on shapes alone.
#include "runtime/cuda/ops/device_code.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// ---- sums of squares -----------------------------------------------------------------------------------------------
// One block per chunk. Thread i sums packs i, i + 256, … of the chunk, aligned or not, so that the address of a tensor
// changes no bit. One launch sums many tensors; their table is part of the argument, as in adamw.cu.
constexpr int64_t kChunk = kSquaresChunk, kTensors = kSquaresTensors;

struct Squares {
  struct Place {
    const void* x;
    int64_t count;
    int first;  // index of its first chunk in the launch: its block and its place in `partial`
  };
  double *results, *partial;
  int tensors;
  Place place[kTensors];
};
static_assert(sizeof(Squares) <= 4096, "what any driver takes as an argument");

template <class T>
__global__ void squares_kernel(const __grid_constant__ Squares args) {
  constexpr int kCount = kPackOf<T>;
  const int block = static_cast<int>(blockIdx.x);
  const Squares::Place& place = args.place[place_of_block(args.place, args.tensors, block)];
  const T* x = static_cast<const T*>(place.x);
  const bool aligned = reinterpret_cast<uintptr_t>(x) % 16 == 0;
  const int64_t begin = static_cast<int64_t>(block - place.first) * kChunk;
  const int64_t end = begin + kChunk < place.count ? begin + kChunk : place.count;
  double sum = 0;
  for (int64_t at = begin + threadIdx.x * kCount; at < end; at += kThreads * kCount) {
    if (aligned && at + kCount <= end) {
      const Pack<T, kCount> pack = Pack<T, kCount>::load(x + at);
      for (int i = 0; i < kCount; ++i) {
        const double value = convert<double>(pack.value[i]);
        sum += value * value;
      }
    } else {
      for (int i = 0; i < kCount && at + i < end; ++i) {
        const double value = convert<double>(x[at + i]);
        sum += value * value;
      }
    }
  }
  sum = row_sum(sum, kWarps, reinterpret_cast<double*>(shared_memory));
  if (threadIdx.x == 0) args.partial[block] = sum;
}

// One block per tensor.
__global__ void totals_kernel(const __grid_constant__ Squares args) {
  const Squares::Place& place = args.place[blockIdx.x];
  const double* partial = args.partial + place.first;
  double sum = 0;
  const int64_t chunks = (place.count + kChunk - 1) / kChunk;
  for (int64_t at = threadIdx.x; at < chunks; at += kThreads) sum += partial[at];
  sum = row_sum(sum, kWarps, reinterpret_cast<double*>(shared_memory));
  if (threadIdx.x == 0) args.results[blockIdx.x] = sum;
}

// ---- sums over runs ------------------------------------------------------------------------------------------------
// A block adds 32 channels: eight slices of the runs in order, then the slices in order. blockIdx.y is the tensor.
constexpr int kChannels = 32;
constexpr int kSlices = kThreads / kChannels;

struct AllRuns {
  Runs sums[kRunsAtOnce];
};

template <class A>
__global__ void add_runs_kernel(const __grid_constant__ AllRuns all) {
  const Runs& args = all.sums[blockIdx.y];
  A* slices = reinterpret_cast<A*>(shared_memory);
  const int lane = threadIdx.x % kChannels, slice = threadIdx.x / kChannels;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kChannels + lane;
  const A* partial = static_cast<const A*>(args.partial);
  A sum = 0;
  if (channel < args.channels)
    for (int64_t run = slice; run < args.runs; run += kSlices) sum += partial[run * args.channels + channel];
  slices[threadIdx.x] = sum;
  if (!kBroken<InjectedFault::kRunsBarrierRemoved>) __syncthreads();
  if (slice > 0 || channel >= args.channels) return;
  for (int other = 1; other < kSlices; ++other) sum += slices[other * kChannels + lane];
  A& to = static_cast<A*>(args.to)[channel];
  to = args.overwrite ? sum : to + sum;
}

// ---- bias ----------------------------------------------------------------------------------------------------------
struct BiasSums {
  void* partial;
  const void* dy;
  int64_t stride, rows, channels, runs;
};

// A warp sums 32 packs of columns over one run of rows.
template <class T, int kCount>
__global__ void bias_kernel(const __grid_constant__ BiasSums args) {
  using A = Accumulate<T>;
  const int64_t run = static_cast<int64_t>(blockIdx.y) * kWarps + threadIdx.x / 32;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x % 32) * kCount;
  if (run >= args.runs || column >= args.channels) return;
  const int64_t begin = args.rows * run / args.runs, end = args.rows * (run + 1) / args.runs;
  A sum[kCount] = {};
  for (int64_t row = begin; row < end; ++row) {
    const auto dy = Pack<T, kCount>::load(static_cast<const T*>(args.dy) + row * args.stride + column);
    for (int i = 0; i < kCount; ++i) sum[i] += convert<A>(dy.value[i]);
  }
  A* to = static_cast<A*>(args.partial) + run * args.channels + column;
  for (int i = 0; i < kCount; ++i) to[i] = sum[i];
}

struct BiasAdd {
  RowGrid grid;
  void* y;
  int64_t stride;
  const void* bias;
};

template <class T, int kCount>
__global__ void add_bias_kernel(const __grid_constant__ BiasAdd args) {
  using A = Accumulate<T>;
  for (RowGrid::Place at = args.grid.first(); at.row < args.grid.rows; at.row += at.step) {
    T* place = static_cast<T*>(args.y) + at.row * args.stride + at.pack * kCount;
    Pack<T, kCount> y = Pack<T, kCount>::load(place);
    const auto bias = Pack<T, kCount>::load(static_cast<const T*>(args.bias) + at.pack * kCount);
    for (int i = 0; i < kCount; ++i) y.value[i] = convert<T>(convert<A>(y.value[i]) + convert<A>(bias.value[i]));
    y.store(place);
  }
}

}  // namespace

cudaError_t launch_sums_of_squares(double* results, double* partial, const Vector* tensors, int64_t tensor_count,
                                   Type type, cudaStream_t stream) {
  for (int64_t begin = 0; begin < tensor_count; begin += kTensors) {
    Squares args = {};
    args.results = results + begin;
    args.partial = partial;
    int64_t blocks = 0;
    for (int64_t i = begin; i < tensor_count && i < begin + kTensors; ++i) {
      args.place[args.tensors++] = {tensors[i].x, tensors[i].count, static_cast<int>(blocks)};
      blocks += sum_of_squares_partials(tensors[i].count);
    }
    partial += blocks;
    cudaError_t error = dispatch_type(type, [&](auto zero) {
      return launch(squares_kernel<decltype(zero)>, blocks, 1, kThreads, kWarps * sizeof(double), stream, args);
    });
    if (error == cudaSuccess)
      error = launch(totals_kernel, args.tensors, 1, kThreads, kWarps * sizeof(double), stream, args);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_add_runs(const Runs* sums, int64_t count, Type accumulate, cudaStream_t stream) {
  if (count > kRunsAtOnce) return cudaErrorInvalidValue;
  AllRuns all{};
  int64_t present = 0, blocks = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (sums[i].runs == 0 && !sums[i].overwrite) continue;
    all.sums[present++] = sums[i];
    const int64_t needed = divide_up(sums[i].channels, kChannels);
    blocks = blocks < needed ? needed : blocks;
  }
  if (accumulate == Type::kFloat64)
    return launch(add_runs_kernel<double>, blocks, present, kThreads, kThreads * sizeof(double), stream, all);
  return launch(add_runs_kernel<float>, blocks, present, kThreads, kThreads * sizeof(float), stream, all);
}

cudaError_t launch_bias_backward(const Bias& shape, void* dbias, ConstMatrix dy, void* partial, cudaStream_t stream) {
  const int64_t runs = row_runs(shape.rows);
  const cudaError_t error = dispatch_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = shape.channels % kCount == 0 && packs(dy.data, dy.stride, kCount, sizeof(T));
    return launch(fits ? bias_kernel<T, kCount> : bias_kernel<T, 1>,
                  divide_up(shape.channels, 32 * (fits ? kCount : 1)), divide_up(runs, kWarps), kThreads, 0, stream,
                  BiasSums{partial, dy.data, dy.stride, shape.rows, shape.channels, runs});
  });
  if (error != cudaSuccess) return error;
  const Runs sums{dbias, partial, runs, shape.channels};
  return launch_add_runs(&sums, 1, shape.type == Type::kFloat64 ? Type::kFloat64 : Type::kFloat32, stream);
}

cudaError_t launch_add_bias(const Bias& shape, Matrix y, const void* bias, cudaStream_t stream) {
  return dispatch_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits =
        shape.channels % kCount == 0 && packs(y.data, y.stride, kCount, sizeof(T)) && packs(bias, 0, kCount, sizeof(T));
    const BiasAdd args{RowGrid(shape.rows, fits ? shape.channels / kCount : shape.channels), y.data, y.stride, bias};
    return launch(fits ? add_bias_kernel<T, kCount> : add_bias_kernel<T, 1>, args.grid, stream, args);
  });
}

}  // namespace carillon::cuda
