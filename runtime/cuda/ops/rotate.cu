// RoPE, in place. A thread rotates one pack of pairs of a row in every head, so that cosines and sines are loaded once
// per row.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

struct Job {
  RowGrid grid;
  Rotate args;
};

template <class T, int kCount>
__global__ void rotate_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  const Rotate& args = job.args;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const int64_t position = args.position[at.row];
    if (position < 0 || position >= args.table_rows) {
      *args.beyond = 1;  // by any thread, always the same value
      continue;
    }
    const int64_t first = at.pack * kCount;
    const auto c = Pack<A, kCount>::load(static_cast<const A*>(args.cosine) + position * args.pairs + first);
    const auto s = Pack<A, kCount>::load(static_cast<const A*>(args.sine) + position * args.pairs + first);
    T* x = static_cast<T*>(args.x.data) + at.row * args.x.row + first;
    for (int64_t head = 0; head < args.heads; ++head, x += args.x.head) {
      Pack<T, kCount> u = Pack<T, kCount>::load(x), v = Pack<T, kCount>::load(x + args.pairs);
      for (int i = 0; i < kCount; ++i) {
        const A a = convert<A>(u.value[i]), b = convert<A>(v.value[i]);
        const A sine = args.inverse ? -s.value[i] : s.value[i];
        u.value[i] = convert<T>(a * c.value[i] - b * sine);
        v.value[i] = convert<T>(b * c.value[i] + a * sine);
      }
      u.store(x);
      v.store(x + args.pairs);
    }
  }
}

// A warp sums 32 pairs over one run of rows: over heads in A, over rows in double, since positions differ widely in
// size.
constexpr int kWarps = 8, kThreads = 32 * kWarps;

struct Rates {
  RotationGradient args;
  int64_t runs;
};

template <class T>
__global__ void rotation_gradient_kernel(const __grid_constant__ Rates job) {
  using A = Accumulate<T>;
  const RotationGradient& args = job.args;
  const int64_t run = static_cast<int64_t>(blockIdx.y) * kWarps + threadIdx.x / 32;
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x % 32;
  if (run >= job.runs || pair >= args.pairs) return;
  const int64_t begin = args.rows * run / job.runs, end = args.rows * (run + 1) / job.runs;
  double sum = 0;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.x.data) + row * args.x.row + pair;
    const T* dx = static_cast<const T*>(args.dx.data) + row * args.dx.row + pair;
    A of_row = 0;
    for (int64_t head = 0; head < args.heads; ++head, x += args.x.head, dx += args.dx.head)
      of_row += convert<A>(x[0]) * convert<A>(dx[args.pairs]) - convert<A>(x[args.pairs]) * convert<A>(dx[0]);
    sum += static_cast<double>(args.position[row]) * static_cast<double>(of_row);
  }
  args.partial[run * args.pairs + pair] = sum;
}

}  // namespace

cudaError_t launch_rotation_gradient(const RotationGradient& args, cudaStream_t stream) {
  const Rates job{args, row_runs(args.rows)};
  if (args.rows == 0 || args.heads == 0 || args.pairs == 0) return cudaSuccess;
  const cudaError_t error = dispatch_type(args.type, [&](auto zero) {
    return launch(rotation_gradient_kernel<decltype(zero)>, divide_up(args.pairs, 32), divide_up(job.runs, kWarps),
                  kThreads, 0, stream, job);
  });
  if (error != cudaSuccess) return error;
  const Runs sums{args.rates, args.partial, job.runs, args.pairs};
  return launch_add_runs(&sums, 1, Type::kFloat64, stream);
}

cudaError_t launch_rotate(const Rotate& args, cudaStream_t stream) {
  if (args.heads == 0) return cudaSuccess;
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = args.pairs % kCount == 0 && packs(args.x.data, args.x.row, kCount, sizeof(T)) &&
                      packs(nullptr, args.x.head, kCount, sizeof(T)) && packs(args.cosine, 0, 16, 1) &&
                      packs(args.sine, 0, 16, 1);
    const Job job{RowGrid(args.rows, fits ? args.pairs / kCount : args.pairs), args};
    return launch(fits ? rotate_kernel<T, kCount> : rotate_kernel<T, 1>, job.grid, stream, job);
  });
}

}  // namespace carillon::cuda
