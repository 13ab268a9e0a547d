// RMSNorm. One warp processes a row of at most 1024 channels (a head, a small model), four rows per block; a block of
// eight warps processes a longer one. Each row is read from memory once: the second pass finds it in the L1 cache,
// because the same threads have just loaded it.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

constexpr int64_t kWarpChannels = 1024;
constexpr int kShortThreads = 128, kLongThreads = 256;
constexpr size_t kSharedLimit = 48 * 1024;  // shared memory of a block without requesting more

struct Shape {
  int64_t rows, heads, channels;  // rows: all heads of all rows
  const void* weight;
  double offset;     // of the weight
  const void* sums;  // of whole rows, given; null: rows are whole
  int64_t columns;   // of a whole row
  int warps;         // that work on a row
};

template <class T>
__device__ __forceinline__ T* row_of(const Shape& shape, const Heads& x, int64_t row) {
  return static_cast<T*>(x.data) + row / shape.heads * x.row + row % shape.heads * x.head;
}

struct Forward {
  Shape shape;
  Heads y, rstd, x;
  double epsilon;
  Heads branch, sum;  // null: none
};

// sum = a + b rounded, as elementwise.cu adds, which the caller goes on with.
template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> sum_of(const T* a, const T* b, T* sum) {
  using A = Accumulate<T>;
  Pack<T, kCount> u = Pack<T, kCount>::load(a);
  const Pack<T, kCount> v = Pack<T, kCount>::load(b);
  for (int i = 0; i < kCount; ++i) u.value[i] = convert<T>(convert<A>(u.value[i]) + convert<A>(v.value[i]));
  u.store(sum);
  return u;
}

template <class T, int kCount>
__global__ void forward_kernel(const __grid_constant__ Forward args) {
  using A = Accumulate<T>;
  using Row = Pack<T, kCount>;
  const Shape& shape = args.shape;
  const int width = 32 * shape.warps, member = threadIdx.x % width;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / width) + threadIdx.x / width;
  const bool active = row < shape.rows;
  // Threads without a row take part in the sum, but access no memory.
  const int64_t channels = active ? shape.channels : 0;
  const T* x = row_of<const T>(shape, args.x, active ? row : 0);
  // The threads that add a pack of x and branch read it again below.
  const bool adds = args.branch.data != nullptr;
  const T* const branch = adds ? row_of<const T>(shape, args.branch, active ? row : 0) : nullptr;
  T* const added = adds ? row_of<T>(shape, args.sum, active ? row : 0) : nullptr;

  A sum = 0;
  if (shape.sums != nullptr) {
    for (int64_t c = member * kCount; adds && c < channels; c += width * kCount)
      sum_of<T, kCount>(x + c, branch + c, added + c);
    if (active) sum = static_cast<const A*>(shape.sums)[row / shape.heads];
  } else {
    for (int64_t c = member * kCount; c < channels; c += width * kCount) {
      const Row u = adds ? sum_of<T, kCount>(x + c, branch + c, added + c) : Row::load(x + c);
      for (int i = 0; i < kCount; ++i) sum += convert<A>(u.value[i]) * convert<A>(u.value[i]);
    }
    sum = row_sum(sum, shape.warps, reinterpret_cast<A*>(shared_memory));
  }
  const A rstd = A(1) / square_root(sum / static_cast<A>(shape.columns) + static_cast<A>(args.epsilon));
  const A offset = static_cast<A>(shape.offset);

  if (adds) x = added;
  T* y = row_of<T>(shape, args.y, active ? row : 0);
  const T* weight = static_cast<const T*>(shape.weight);
  for (int64_t c = member * kCount; c < channels; c += width * kCount) {
    const Row u = Row::load(x + c), w = Row::load(weight + c);
    Row result;
    for (int i = 0; i < kCount; ++i)
      result.value[i] = convert<T>(convert<A>(u.value[i]) * rstd * (offset + convert<A>(w.value[i])));
    result.store(y + c);
  }
  if (active && member == 0) *row_of<A>(shape, args.rstd, row) = rstd;
}

struct Backward {
  Shape shape;
  Heads dx, dy, x, rstd;
  void* partial;  // [runs, channels]
  int64_t runs;
  bool accumulate, sums_in_shared;
  Heads y;  // again; null: not wanted
};

// dx = rstd · (dy·w − u · mean(dy·w·u)), dweight = Σ dy·u with u = x·rstd. A warp or block processes a run of rows one
// after another and keeps its sums for dweight in shared memory, where each thread accesses only its own channels.
template <class T, int kCount>
__global__ void backward_kernel(const __grid_constant__ Backward args) {
  using A = Accumulate<T>;
  using Row = Pack<T, kCount>;
  const Shape& shape = args.shape;
  const int width = 32 * shape.warps, member = threadIdx.x % width, group = threadIdx.x / width;
  const int groups = blockDim.x / width;
  const int64_t run = static_cast<int64_t>(blockIdx.x) * groups + group;
  const bool active = run < args.runs;
  const int64_t channels = active ? shape.channels : 0;
  const int64_t begin = active ? shape.rows * run / args.runs : 0;
  const int64_t end = active ? shape.rows * (run + 1) / args.runs : 0;
  A* slots = reinterpret_cast<A*>(shared_memory);
  A* partial = static_cast<A*>(args.partial) + (active ? run : 0) * shape.channels;
  A* sums = args.sums_in_shared ? slots + (shape.warps == 1 ? 0 : shape.warps) + group * shape.channels : partial;
  const T* weight = static_cast<const T*>(shape.weight);
  const A offset = static_cast<A>(shape.offset);

  for (int64_t c = member * kCount; c < channels; c += width * kCount)
    for (int i = 0; i < kCount; ++i) sums[c + i] = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T *x = row_of<const T>(shape, args.x, row), *dy = row_of<const T>(shape, args.dy, row);
    const A rstd = *row_of<const A>(shape, args.rstd, row);
    A mean = 0;
    for (int64_t c = member * kCount; c < channels; c += width * kCount) {
      const Row u = Row::load(x + c), d = Row::load(dy + c), w = Row::load(weight + c);
      for (int i = 0; i < kCount; ++i) {
        const A slope = convert<A>(d.value[i]) * (convert<A>(u.value[i]) * rstd);
        mean += slope * (offset + convert<A>(w.value[i]));
        sums[c + i] += slope;
      }
    }
    mean = row_sum(mean, shape.warps, slots);
    if (shape.sums != nullptr) mean = static_cast<const A*>(shape.sums)[row / shape.heads] * rstd;
    mean /= static_cast<A>(shape.columns);
    T* dx = row_of<T>(shape, args.dx, row);
    for (int64_t c = member * kCount; c < channels; c += width * kCount) {
      const Row u = Row::load(x + c), d = Row::load(dy + c), w = Row::load(weight + c);
      Row result;
      if (args.accumulate) result = Row::load(dx + c);
      for (int i = 0; i < kCount; ++i) {
        const A slope =
            rstd * (convert<A>(d.value[i]) * (offset + convert<A>(w.value[i])) - convert<A>(u.value[i]) * rstd * mean);
        result.value[i] = convert<T>(args.accumulate ? convert<A>(result.value[i]) + slope : slope);
      }
      result.store(dx + c);
      if (args.y.data == nullptr) continue;
      for (int i = 0; i < kCount; ++i)
        result.value[i] = convert<T>(convert<A>(u.value[i]) * rstd * (offset + convert<A>(w.value[i])));
      result.store(row_of<T>(shape, args.y, row) + c);
    }
  }
  if (!args.sums_in_shared) return;
  for (int64_t c = member * kCount; c < channels; c += width * kCount)
    for (int i = 0; i < kCount; ++i) partial[c + i] = sums[c + i];
}

Shape shape_of(const Rmsnorm& shape) {
  return {shape.rows * shape.heads,
          shape.heads,
          shape.channels,
          shape.weight,
          shape.offset,
          shape.sums,
          shape.sums != nullptr ? shape.columns : shape.channels,
          shape.channels <= kWarpChannels ? 1 : 8};
}
int threads_of(const Shape& shape) { return shape.warps == 1 ? kShortThreads : kLongThreads; }
int groups_of(const Shape& shape) { return threads_of(shape) / (32 * shape.warps); }

bool packs(const Heads& x, int count, size_t bytes) {
  if (x.data == nullptr) return true;
  return cuda::packs(x.data, x.row, count, bytes) && cuda::packs(nullptr, x.head, count, bytes);
}

}  // namespace

cudaError_t launch_rmsnorm_forward(const Rmsnorm& rows, Heads y, Heads rstd, Heads x, double epsilon,
                                   cudaStream_t stream, Heads branch, Heads sum) {
  const Forward args{shape_of(rows), y, rstd, x, epsilon, branch, sum};
  return dispatch_type(rows.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = rows.channels % kCount == 0 && packs(y, kCount, sizeof(T)) && packs(x, kCount, sizeof(T)) &&
                      packs(branch, kCount, sizeof(T)) && packs(sum, kCount, sizeof(T)) &&
                      cuda::packs(rows.weight, 0, kCount, sizeof(T));
    return launch(fits ? forward_kernel<T, kCount> : forward_kernel<T, 1>,
                  divide_up(args.shape.rows, groups_of(args.shape)), 1, threads_of(args.shape),
                  static_cast<size_t>(args.shape.warps) * sizeof(Accumulate<T>), stream, args);
  });
}

cudaError_t launch_rmsnorm_backward(const Rmsnorm& rows, Heads dx, Heads y, Heads dy, Heads x, Heads rstd,
                                    bool accumulate, void* partial, cudaStream_t stream) {
  Backward args{shape_of(rows), dx, dy, x, rstd, partial, row_runs(rows.rows * rows.heads), accumulate, false, y};
  return dispatch_type(rows.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = rows.channels % kCount == 0 && packs(dx, kCount, sizeof(T)) && packs(dy, kCount, sizeof(T)) &&
                      packs(x, kCount, sizeof(T)) && packs(y, kCount, sizeof(T)) &&
                      cuda::packs(rows.weight, 0, kCount, sizeof(T));
    const int groups = groups_of(args.shape);
    const size_t slots = args.shape.warps == 1 ? 0 : static_cast<size_t>(args.shape.warps);
    size_t shared = (slots + static_cast<size_t>(groups * rows.channels)) * sizeof(Accumulate<T>);
    args.sums_in_shared = shared <= kSharedLimit;
    if (!args.sums_in_shared) shared = slots * sizeof(Accumulate<T>);
    return launch(fits ? backward_kernel<T, kCount> : backward_kernel<T, 1>, divide_up(args.runs, groups), 1,
                  threads_of(args.shape), shared, stream, args);
  });
}

}  // namespace carillon::cuda
