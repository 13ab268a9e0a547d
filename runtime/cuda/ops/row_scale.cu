// Scaling each row by a factor, and the dot product of two rows: used by queries with a temperature, and by norms over
// rows that are split across ranks.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

struct Scale {
  RowGrid grid;  // rows: all heads of all rows
  ScaleRows args;
};

template <class T, int kCount>
__global__ void scale_kernel(const __grid_constant__ Scale job) {
  using A = Accumulate<T>;
  const ScaleRows& args = job.args;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const int64_t n = at.row / args.heads, h = at.row % args.heads;
    T* x = static_cast<T*>(args.x.data) + n * args.x.row + h * args.x.head + at.pack * kCount;
    const A factor = static_cast<const A*>(args.factor)[n];
    Pack<T, kCount> value = Pack<T, kCount>::load(x);
    for (int i = 0; i < kCount; ++i) value.value[i] = convert<T>(convert<A>(value.value[i]) * factor);
    value.store(x);
  }
}

constexpr int kDotRows = 8;  // rows per block, one warp each

template <class T>
__global__ void dot_kernel(const __grid_constant__ RowDot args) {
  using A = Accumulate<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kDotRows + threadIdx.x / 32;
  const bool active = row < args.rows;  // the same for the whole warp; all lanes must reach the sum
  const T* a = static_cast<const T*>(args.a.data) + (active ? row : 0) * args.a.stride;
  const T* b = static_cast<const T*>(args.b.data) + (active ? row : 0) * args.b.stride;
  const T* weight = static_cast<const T*>(args.weight);
  A sum = 0;
  for (int64_t c = threadIdx.x % 32; active && c < args.channels; c += 32) {
    const A by = weight != nullptr ? static_cast<A>(args.offset) + convert<A>(weight[c]) : A(1);
    sum += convert<A>(a[c]) * convert<A>(b[c]) * by;
  }
  sum = warp_sum(sum);
  if (active && threadIdx.x % 32 == 0) static_cast<A*>(args.sums)[row] = sum;
}

}  // namespace

cudaError_t launch_scale_rows(const ScaleRows& args, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const bool fits = args.channels % kCount == 0 && packs(args.x.data, args.x.row, kCount, sizeof(T)) &&
                      packs(nullptr, args.x.head, kCount, sizeof(T));
    const Scale job{RowGrid(args.rows * args.heads, fits ? args.channels / kCount : args.channels), args};
    return launch(fits ? scale_kernel<T, kCount> : scale_kernel<T, 1>, job.grid, stream, job);
  });
}

cudaError_t launch_row_dot(const RowDot& args, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    return launch(dot_kernel<T>, divide_up(args.rows, kDotRows), 1, kDotRows * 32, 0, stream, args);
  });
}

}  // namespace carillon::cuda
