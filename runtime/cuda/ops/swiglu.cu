// SwiGLU and its gradient, each in one pass over three and six rows of memory.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

struct Job {
  RowGrid grid;
  Matrix dgate, dup, y;
  ConstMatrix dy, gate, up;
};

template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> load(const ConstMatrix& x, const RowGrid::Place& at) {
  return Pack<T, kCount>::load(static_cast<const T*>(x.data) + at.row * x.stride + at.pack * kCount);
}
template <class T, int kCount>
__device__ __forceinline__ void store(const Pack<T, kCount>& value, const Matrix& x, const RowGrid::Place& at) {
  value.store(static_cast<T*>(x.data) + at.row * x.stride + at.pack * kCount);
}

// A gate is z · sigmoid(g(z)); inside is g, inside_slope its derivative g'.
template <class A, bool kGelu>
__device__ __forceinline__ A inside(A z) {
  if constexpr (!kGelu) return z;
  return z * (z * z * A(0.0713548162726002527220) + A(1.595769121605730711759));
}
template <class A, bool kGelu>
__device__ __forceinline__ A inside_slope(A z) {
  if constexpr (!kGelu) return A(1);
  return z * z * A(3 * 0.0713548162726002527220) + A(1.595769121605730711759);
}

// The gate of z times u. Both passes use the same operations and so get the same bits.
template <class A>
__device__ __forceinline__ A gated(A z, A denominator, A u) {
  return z / denominator * u;
}

template <class T, int kCount, bool kGelu>
__global__ void forward_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const auto gate = load<T, kCount>(job.gate, at), up = load<T, kCount>(job.up, at);
    Pack<T, kCount> y;
    for (int i = 0; i < kCount; ++i) {
      const A z = convert<A>(gate.value[i]);
      y.value[i] = convert<T>(gated(z, A(1) + exponential(-inside<A, kGelu>(z)), convert<A>(up.value[i])));
    }
    store(y, job.y, at);
  }
}

// With s = sigmoid(g(z)) the gate's derivative is s · (1 + z · (1 − s) · g'(z)). A thread loads its pack of all inputs
// before it stores, so dgate and dup may alias gate and up.
template <class T, int kCount, bool kGelu>
__global__ void backward_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const auto gate = load<T, kCount>(job.gate, at), up = load<T, kCount>(job.up, at), dy = load<T, kCount>(job.dy, at);
    Pack<T, kCount> dgate, dup, y;
    for (int i = 0; i < kCount; ++i) {
      const A z = convert<A>(gate.value[i]), u = convert<A>(up.value[i]), d = convert<A>(dy.value[i]);
      const A denominator = A(1) + exponential(-inside<A, kGelu>(z)), s = A(1) / denominator;
      y.value[i] = convert<T>(gated(z, denominator, u));
      dgate.value[i] = convert<T>(d * u * s * (A(1) + z * (A(1) - s) * inside_slope<A, kGelu>(z)));
      dup.value[i] = convert<T>(d * z * s);
    }
    store(y, job.y, at);
    store(dgate, job.dgate, at);
    store(dup, job.dup, at);
  }
}

bool rows_pack(const Job& job, int count, size_t bytes) {
  for (const Matrix& x : {job.dgate, job.dup, job.y})
    if (!packs(x.data, x.stride, count, bytes)) return false;
  for (const ConstMatrix& x : {job.dy, job.gate, job.up})
    if (!packs(x.data, x.stride, count, bytes)) return false;
  return true;
}

template <class T>
cudaError_t start(void (*packed)(Job), void (*single)(Job), Job job, const Swiglu& args, cudaStream_t stream) {
  constexpr int kCount = kPackOf<T>;
  const bool fits = args.width % kCount == 0 && rows_pack(job, kCount, sizeof(T));
  job.grid = RowGrid(args.rows, fits ? args.width / kCount : args.width);
  return launch(fits ? packed : single, job.grid, stream, job);
}

}  // namespace

cudaError_t launch_swiglu_forward(const Swiglu& args, Matrix y, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    const Job job{{}, {}, {}, y, {}, args.gate, args.up};
    if (args.gelu) return start<T>(forward_kernel<T, kPackOf<T>, true>, forward_kernel<T, 1, true>, job, args, stream);
    return start<T>(forward_kernel<T, kPackOf<T>, false>, forward_kernel<T, 1, false>, job, args, stream);
  });
}

cudaError_t launch_swiglu_backward(const Swiglu& args, Matrix dgate, Matrix dup, Matrix y, ConstMatrix dy,
                                   cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    const Job job{{}, dgate, dup, y, dy, args.gate, args.up};
    if (args.gelu)
      return start<T>(backward_kernel<T, kPackOf<T>, true>, backward_kernel<T, 1, true>, job, args, stream);
    return start<T>(backward_kernel<T, kPackOf<T>, false>, backward_kernel<T, 1, false>, job, args, stream);
  });
}

}  // namespace carillon::cuda
