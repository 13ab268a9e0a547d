// The three steps of cross-entropy over columns that may be only part of the vocabulary. One block per row; sums use
// the fixed tree of device_code.h.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;

// The larger of the two; NaN if either is NaN.
template <class A>
__device__ __forceinline__ A larger(A a, A b) {
  if (a != a) return a;
  return b > a || b != b ? b : a;
}

template <class T>
__device__ __forceinline__ const T* row_of(const CrossEntropy& args) {
  return static_cast<const T*>(args.logits.data) + static_cast<int64_t>(blockIdx.x) * args.logits.stride;
}

template <class T, int kCount>
__global__ void maximum_kernel(const __grid_constant__ CrossEntropy args) {
  using A = Accumulate<T>;
  A* slots = reinterpret_cast<A*>(shared_memory);
  const T* row = row_of<T>(args);
  A largest = static_cast<A>(-INFINITY);
  for (int64_t c = threadIdx.x * kCount; c < args.columns; c += kThreads * kCount) {
    const auto z = Pack<T, kCount>::load(row + c);
    for (int i = 0; i < kCount; ++i) largest = larger(largest, convert<A>(z.value[i]));
  }
  for (int offset = 16; offset > 0; offset /= 2) largest = larger(largest, __shfl_xor_sync(kAllLanes, largest, offset));
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = largest;
  if (!kBroken<InjectedFault::kMaximumBarrierRemoved>) __syncthreads();
  if (threadIdx.x > 0) return;
  for (int warp = 1; warp < kWarps; ++warp) largest = larger(largest, slots[warp]);
  static_cast<A*>(args.maximum)[blockIdx.x] = largest;
}

template <class T, int kCount>
__global__ void sums_kernel(const __grid_constant__ CrossEntropy args) {
  using A = Accumulate<T>;
  const T* row = row_of<T>(args);
  const A maximum = static_cast<const A*>(args.maximum)[blockIdx.x];
  A sum = 0;
  for (int64_t c = threadIdx.x * kCount; c < args.columns; c += kThreads * kCount) {
    const auto z = Pack<T, kCount>::load(row + c);
    for (int i = 0; i < kCount; ++i) sum += exponential(convert<A>(z.value[i]) - maximum);
  }
  sum = row_sum(sum, kWarps, reinterpret_cast<A*>(shared_memory));
  if (threadIdx.x > 0) return;
  const int64_t target = args.target[blockIdx.x], column = target - args.first_column;
  const bool here = target >= 0 && column >= 0 && column < args.columns;
  static_cast<A*>(args.sum)[blockIdx.x] = sum;
  static_cast<A*>(args.at_target)[blockIdx.x] = here ? convert<A>(row[column]) - maximum : A(0);
}

struct Finish {
  CrossEntropy args;
  void* loss;
  const void* weight;
  Matrix gradient;
};

template <class A>
__device__ __forceinline__ void write_loss(const Finish& job, int64_t n) {
  const A sum = static_cast<const A*>(job.args.sum)[n], at_target = static_cast<const A*>(job.args.at_target)[n];
  static_cast<A*>(job.loss)[n] = job.args.target[n] >= 0 ? logarithm(sum) - at_target : A(0);
}

template <class A>
__global__ void loss_kernel(const __grid_constant__ Finish job) {
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n < job.args.rows) write_loss<A>(job, n);
}

// A block loads a stretch of the row, waits until all threads have loaded, stores the gradient of the stretch, and goes
// on to the next. So the gradient may overlay the logits if its elements are not wider: each store then ends before the
// logits still to be loaded.
template <class T, class G, int kCount>
__global__ void gradient_kernel(const __grid_constant__ Finish job) {
  using A = Accumulate<T>;
  const CrossEntropy& args = job.args;
  const int64_t n = blockIdx.x;
  const T* row = row_of<T>(args);
  G* gradient = static_cast<G*>(job.gradient.data) + n * job.gradient.stride;
  const int64_t target = args.target[n], column = target - args.first_column;
  const A weight = static_cast<const A*>(job.weight)[n], maximum = static_cast<const A*>(args.maximum)[n],
          sum = static_cast<const A*>(args.sum)[n];
  const bool counts = target >= 0 && weight != A(0);
  if (threadIdx.x == 0) write_loss<A>(job, n);
  for (int64_t stretch = 0; stretch < args.columns; stretch += kThreads * kCount) {
    const int64_t c = stretch + threadIdx.x * kCount;
    Pack<G, kCount> to;
    for (int i = 0; i < kCount; ++i) to.value[i] = convert<G>(0.0f);
    if (counts && c < args.columns) {
      const auto z = Pack<T, kCount>::load(row + c);
      for (int i = 0; i < kCount; ++i) {
        const A hot = c + i == column ? A(1) : A(0);
        A slope = weight * (exponential(convert<A>(z.value[i]) - maximum) / sum - hot);
        if (args.cap != 0) {
          const A share = convert<A>(z.value[i]) / static_cast<A>(args.cap);
          slope *= (A(1) - share) * (A(1) + share);
        }
        to.value[i] = convert<G>(slope);
      }
    }
    if (!kBroken<InjectedFault::kGradientBarrierRemoved>) __syncthreads();
    if (c < args.columns) to.store(gradient + c);
  }
}

template <class T>
bool rows_pack(const CrossEntropy& args) {
  return args.columns % kPackOf<T> == 0 && packs(args.logits.data, args.logits.stride, kPackOf<T>, sizeof(T));
}

}  // namespace

cudaError_t launch_cross_entropy_maximum(const CrossEntropy& args, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    return launch(rows_pack<T>(args) ? maximum_kernel<T, kPackOf<T>> : maximum_kernel<T, 1>, args.rows, 1, kThreads,
                  kWarps * sizeof(Accumulate<T>), stream, args);
  });
}

cudaError_t launch_cross_entropy_sums(const CrossEntropy& args, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    return launch(rows_pack<T>(args) ? sums_kernel<T, kPackOf<T>> : sums_kernel<T, 1>, args.rows, 1, kThreads,
                  kWarps * sizeof(Accumulate<T>), stream, args);
  });
}

cudaError_t launch_cross_entropy_finish(const CrossEntropy& args, void* loss, const void* weight, Matrix gradient,
                                        Type gradient_type, cudaStream_t stream) {
  const Finish job{args, loss, weight, gradient};
  if (gradient.data == nullptr) {
    const int64_t blocks = divide_up(args.rows, kThreads);
    return args.type == Type::kFloat64 ? launch(loss_kernel<double>, blocks, 1, kThreads, 0, stream, job)
                                       : launch(loss_kernel<float>, blocks, 1, kThreads, 0, stream, job);
  }
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kCount = kPackOf<T>;
    const auto start = [&](auto zero_gradient) {
      using G = decltype(zero_gradient);
      const bool fits = rows_pack<T>(args) && packs(gradient.data, gradient.stride, kCount, sizeof(G));
      return launch(fits ? gradient_kernel<T, G, kCount> : gradient_kernel<T, G, 1>, args.rows, 1, kThreads, 0, stream,
                    job);
    };
    if (gradient_type == args.type) return start(T{});
    if (args.type == Type::kFloat32 && gradient_type == Type::kBFloat16) return start(__nv_bfloat16{});
    if (args.type == Type::kBFloat16 && gradient_type == Type::kFloat32) return start(float{});
    return cudaErrorInvalidValue;
  });
}

}  // namespace carillon::cuda
