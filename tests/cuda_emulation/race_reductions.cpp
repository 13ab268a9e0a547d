// The other kernels with barriers on small problems, a real thread for every thread of a block, watched by
// ThreadSanitizer.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda_runtime.h"
#include "runtime/cuda/ops/kernels.h"

using namespace carillon::cuda;

namespace {

template <class T = float>
T* on_device(size_t count, T value = T(1)) {
  T* pointer = nullptr;
  if (cudaMalloc(&pointer, count * sizeof(T)) != cudaSuccess) return nullptr;
  const std::vector<T> values(count, value);
  cudaMemcpy(pointer, values.data(), count * sizeof(T), cudaMemcpyHostToDevice);
  return pointer;
}

}  // namespace

int main() {
  int failures = 0;
  const auto note = [&](cudaError_t error) { failures += error != cudaSuccess; };
  {
    const Vector tensors[] = {{on_device(2000), 2000}, {on_device(70), 70}};
    note(launch_sums_of_squares(on_device<double>(2), on_device<double>(16), tensors, 2, Type::kFloat32, nullptr));
  }
  note(launch_bias_backward({Type::kFloat32, 4, 8}, on_device(8), {on_device(32), 8}, on_device(512 * 8), nullptr));
  {
    constexpr int64_t kRows = 2, kChannels = 1040;  // a block a row
    const auto heads = [] { return Heads{on_device(kRows * kChannels), kChannels, 0}; };
    const Rmsnorm shape{Type::kFloat32, kRows, 1, kChannels, on_device(kChannels)};
    const Heads rstd{on_device(kRows), 1, 0};
    note(launch_rmsnorm_forward(shape, heads(), rstd, heads(), 1e-6, nullptr));
    note(launch_rmsnorm_forward(shape, heads(), rstd, heads(), 1e-6, nullptr, heads(), heads()));
    float* const partial = on_device(512 * kChannels);
    note(launch_rmsnorm_backward(shape, heads(), heads(), heads(), heads(), rstd, false, partial, nullptr));
    const Runs sums[] = {{on_device(kChannels), partial, kRows, kChannels},
                         {on_device(kChannels), partial, kRows, kChannels, true}};
    note(launch_add_runs(sums, 2, Type::kFloat32, nullptr));
  }
  {
    constexpr int64_t kRows = 2, kColumns = 1500;
    float* logits = on_device(kRows * kColumns);
    const CrossEntropy args{Type::kFloat32,
                            kRows,
                            kColumns,
                            0,
                            {logits, kColumns},
                            on_device(kRows),
                            on_device(kRows),
                            on_device(kRows),
                            on_device<int64_t>(kRows, 3)};
    note(launch_cross_entropy_maximum(args, nullptr));
    note(launch_cross_entropy_sums(args, nullptr));
    note(launch_cross_entropy_finish(args, on_device(kRows), on_device(kRows), {logits, 2 * kColumns}, Type::kBFloat16,
                                     nullptr));
  }
  {
    constexpr int64_t kRows = 40, kChannels = 4;
    note(launch_embedding_backward({Type::kFloat32, on_device<int64_t>(kRows, 5), kRows, kChannels, 64, 0},
                                   {on_device(64 * kChannels), kChannels}, {on_device(kRows * kChannels), kChannels},
                                   on_device<uint64_t>(static_cast<size_t>(embedding_keys(kRows))), nullptr, nullptr));
  }
  note(cudaDeviceSynchronize());
  std::printf("%d failures\n", failures);
  return failures;
}
