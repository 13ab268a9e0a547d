// AdamW: loads master, moments and gradient once, and stores master, moments and weight once. One kernel updates many
// tensors. Their table is part of the kernel's argument (up to 4 KiB), so no copy to the device is needed that a later
// step could overwrite.
#include "runtime/cuda/ops/device_code.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kTensors = kAdamWTensors;
// Elements per block: four packs of float32 per thread, so that the bisection that finds the block's tensor (six steps
// in constant memory) costs little in comparison.
constexpr int64_t kChunk = 4096;

struct Job {
  struct Place {
    AdamWOperands tensor;
    int first;     // index of the tensor's first block
    bool aligned;  // whole packs can be loaded and stored
  };
  AdamW step;
  int tensors;
  Place place[kTensors];
};
static_assert(sizeof(Job) <= 4096, "what any driver takes as an argument");

template <class A>
struct Numbers {
  A scale, beta1, beta2, epsilon, decay, step_size, correction2;
};

template <class A, class T, int kCount>
__device__ __forceinline__ void update(const AdamWOperands& tensor, int64_t first, const Numbers<A>& n) {
  A *master = static_cast<A*>(tensor.master) + first, *exp_avg = static_cast<A*>(tensor.exp_avg) + first,
    *exp_avg_sq = static_cast<A*>(tensor.exp_avg_sq) + first;
  Pack<A, kCount> w = Pack<A, kCount>::load(master), m = Pack<A, kCount>::load(exp_avg),
                  v = Pack<A, kCount>::load(exp_avg_sq);
  const auto g = Pack<A, kCount>::load(static_cast<const A*>(tensor.gradient) + first);
  Pack<T, kCount> weight;
  for (int i = 0; i < kCount; ++i) {
    const A slope = g.value[i] * n.scale;
    m.value[i] = n.beta1 * m.value[i] + (A(1) - n.beta1) * slope;
    v.value[i] = n.beta2 * v.value[i] + (A(1) - n.beta2) * slope * slope;
    w.value[i] =
        w.value[i] * n.decay - n.step_size * m.value[i] / (square_root(v.value[i]) / n.correction2 + n.epsilon);
    weight.value[i] = convert<T>(w.value[i]);
  }
  w.store(master);
  m.store(exp_avg);
  v.store(exp_avg_sq);
  if (tensor.weight != nullptr) weight.store(static_cast<T*>(tensor.weight) + first);
}

// A pack is 16 bytes of A.
template <class A, class T>
__global__ void adamw_kernel(const __grid_constant__ Job job) {
  constexpr int kCount = kPackOf<A>;
  const int block = static_cast<int>(blockIdx.x);
  const Job::Place& place = job.place[place_of_block(job.place, job.tensors, block)];
  const AdamWOperands& tensor = place.tensor;
  const AdamW& step = job.step;
  const Numbers<A> numbers{static_cast<A>(step.gradient_scale),
                           static_cast<A>(step.beta1),
                           static_cast<A>(step.beta2),
                           static_cast<A>(step.epsilon),
                           tensor.decays ? static_cast<A>(step.decay) : A(1),
                           static_cast<A>(step.step_size),
                           static_cast<A>(step.correction2)};
  const int64_t begin = static_cast<int64_t>(block - place.first) * kChunk;
  const int64_t end = begin + kChunk < tensor.count ? begin + kChunk : tensor.count;
  for (int64_t at = begin + threadIdx.x * kCount; at < end; at += kThreads * kCount) {
    if (place.aligned && at + kCount <= end)
      update<A, T, kCount>(tensor, at, numbers);
    else
      for (int i = 0; i < kCount && at + i < end; ++i) update<A, T, 1>(tensor, at + i, numbers);
  }
}

template <class A, class T>
bool aligned(const AdamWOperands& tensor) {
  bool result = packs(tensor.weight, 0, kPackOf<A>, sizeof(T));
  for (const void* x : {static_cast<const void*>(tensor.master), static_cast<const void*>(tensor.exp_avg),
                        static_cast<const void*>(tensor.exp_avg_sq), tensor.gradient})
    result = result && packs(x, 0, kPackOf<A>, sizeof(A));
  return result;
}

// A launch has fewer than 2^31 blocks, enough for 9·10^12 elements.
template <class A, class T>
cudaError_t start(const AdamW& step, const AdamWOperands* tensors, int64_t tensor_count, cudaStream_t stream) {
  for (int64_t begin = 0; begin < tensor_count; begin += kTensors) {
    Job job = {};
    job.step = step;
    int64_t blocks = 0;
    for (int64_t i = begin; i < tensor_count && i < begin + kTensors; ++i) {
      job.place[job.tensors++] = {tensors[i], static_cast<int>(blocks), aligned<A, T>(tensors[i])};
      blocks += divide_up(tensors[i].count, kChunk);
    }
    const cudaError_t error = launch(adamw_kernel<A, T>, blocks, 1, kThreads, 0, stream, job);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t launch_adamw(const AdamW& step, Type type, Type weight_type, const AdamWOperands* tensors,
                         int64_t tensor_count, cudaStream_t stream) {
  if (type == Type::kFloat64) return start<double, double>(step, tensors, tensor_count, stream);
  if (weight_type == Type::kBFloat16) return start<float, __nv_bfloat16>(step, tensors, tensor_count, stream);
  return start<float, float>(step, tensors, tensor_count, stream);
}

}  // namespace carillon::cuda
