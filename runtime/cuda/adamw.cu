// AdamW: master, moments and gradient read, master, moments and weight written, once.
#include "runtime/cuda/device_code.h"

namespace carillon::cuda {
namespace {

struct Job {
  RowGrid grid;
  AdamW args;
};

// A pack is 16 bytes of A.
template <class A, class T, int kCount>
__global__ void adamw_kernel(const __grid_constant__ Job job) {
  const AdamW& args = job.args;
  const A scale = static_cast<A>(args.gradient_scale), beta1 = static_cast<A>(args.beta1),
          beta2 = static_cast<A>(args.beta2), epsilon = static_cast<A>(args.epsilon),
          decay = static_cast<A>(args.decay), step_size = static_cast<A>(args.step_size),
          correction2 = static_cast<A>(args.correction2);
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const int64_t first = at.pack * kCount;
    A *master = static_cast<A*>(args.master) + first, *exp_avg = static_cast<A*>(args.exp_avg) + first,
      *exp_avg_sq = static_cast<A*>(args.exp_avg_sq) + first;
    Pack<A, kCount> w = Pack<A, kCount>::load(master), m = Pack<A, kCount>::load(exp_avg),
                    v = Pack<A, kCount>::load(exp_avg_sq);
    const auto g = Pack<A, kCount>::load(static_cast<const A*>(args.gradient) + first);
    Pack<T, kCount> weight;
    for (int i = 0; i < kCount; ++i) {
      const A slope = g.value[i] * scale;
      m.value[i] = beta1 * m.value[i] + (A(1) - beta1) * slope;
      v.value[i] = beta2 * v.value[i] + (A(1) - beta2) * slope * slope;
      w.value[i] = w.value[i] * decay - step_size * m.value[i] / (square_root(v.value[i]) / correction2 + epsilon);
      weight.value[i] = convert<T>(w.value[i]);
    }
    w.store(master);
    m.store(exp_avg);
    v.store(exp_avg_sq);
    if (args.weight != nullptr) weight.store(static_cast<T*>(args.weight) + first);
  }
}

template <class A, class T>
cudaError_t start(const AdamW& args, cudaStream_t stream) {
  constexpr int kCount = kPackOf<A>;
  bool fits = args.count % kCount == 0 && packs(args.weight, 0, kCount, sizeof(T));
  for (const void* x : {static_cast<const void*>(args.master), static_cast<const void*>(args.exp_avg),
                        static_cast<const void*>(args.exp_avg_sq), args.gradient})
    fits = fits && packs(x, 0, kCount, sizeof(A));
  const Job job{RowGrid(1, fits ? args.count / kCount : args.count), args};
  return launch(fits ? adamw_kernel<A, T, kCount> : adamw_kernel<A, T, 1>, job.grid, stream, job);
}

}  // namespace

cudaError_t launch_adamw(const AdamW& args, cudaStream_t stream) {
  if (args.count == 0) return cudaSuccess;
  if (args.type == Type::kFloat64) return start<double, double>(args, stream);
  if (args.weight_type == Type::kBFloat16) return start<float, __nv_bfloat16>(args, stream);
  return start<float, float>(args, stream);
}

}  // namespace carillon::cuda
