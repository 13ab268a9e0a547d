// RoPE, in place. A thread takes one pack of pairs of a row and turns it in every head, so that cosines and sines are
// read once a row.
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

}  // namespace

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
