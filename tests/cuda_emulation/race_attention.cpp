// Attention's tensor-core kernels on a small causal problem, with a real thread for every thread of a block, under
// ThreadSanitizer. Two tiles of keys and two blocks of rows, so that every stage of shared memory is reused.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda_runtime.h"
#include "runtime/cuda/attention/attention_kernels.h"

using namespace carillon::cuda;

namespace {

template <class T>
T* on_device(const std::vector<T>& values) {
  T* pointer = nullptr;
  if (cudaMalloc(&pointer, values.size() * sizeof(T)) != cudaSuccess) return nullptr;
  cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  return pointer;
}

}  // namespace

// Not reached, because tensor-core kernels handle the problem.
namespace carillon::cuda {
cudaError_t launch_attention_forward_general(const AttentionForward&, cudaStream_t) { return cudaErrorInvalidValue; }
cudaError_t launch_attention_backward_general(const AttentionBackward&, cudaStream_t) { return cudaErrorInvalidValue; }
}  // namespace carillon::cuda

int main() {
  constexpr int64_t kRows = 130, kHead = 64;
  std::vector<uint16_t> numbers(kRows * kHead);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<uint16_t>(0x3e00 + i * 37 % 256);  // bfloat16
  const std::vector<float> zeros(kRows * kHead, 0), statistics(kRows, 1);
  std::vector<int64_t> index(kRows);
  for (int64_t i = 0; i < kRows; ++i) index[static_cast<size_t>(i)] = i;
  int64_t* indices = on_device(index);
  const auto input = [&] { return HeadsView{on_device(numbers), kRows * kHead, kHead, kHead}; };
  const auto output = [&] { return HeadsView{on_device(zeros), kRows * kHead, kHead, kHead}; };
  const auto statistic = [&] { return StatisticView{on_device(statistics), kRows, kRows}; };

  AttentionProblem problem;
  problem.type = Type::kBFloat16;
  problem.batch = problem.heads = problem.kv_heads = 1;
  problem.rows = problem.keys = kRows;
  problem.head_size = kHead;
  problem.scale = 0.125;
  problem.q = input(), problem.k = input(), problem.v = input();
  problem.query_index = problem.key_index = indices;
  problem.first = on_device(std::vector<int64_t>(kRows, 0));
  problem.first_batch = kRows;
  const AttentionRows shape{Type::kBFloat16, 1, kRows, 1, kHead};
  const StatisticView maximum = statistic(), sum = statistic(), lse = statistic(), delta = statistic();
  const HeadsView accumulator = output(), out = input(), dout = input();
  int failures = 0;
  const auto note = [&](cudaError_t error) { failures += error != cudaSuccess; };
  note(launch_attention_begin(shape, maximum, sum, nullptr, Type::kFloat32, nullptr));
  note(launch_attention_forward({problem, accumulator, maximum, sum}, nullptr));
  note(launch_attention_finish(shape, out, lse, accumulator, maximum, sum, nullptr));
  note(launch_attention_delta(shape, delta, dout, out, nullptr));
  note(launch_attention_backward({problem, output(), output(), output(), dout, lse, delta}, nullptr));
  // With both ends in a call, gradients turned back.
  AttentionForward forward{problem, accumulator, maximum, sum};
  forward.first = true, forward.out = out, forward.lse = lse;
  note(launch_attention_forward(forward, nullptr));
  AttentionBackward backward{problem, output(), output(), output(), dout, lse, delta};
  backward.first = backward.first_keys = true, backward.out = out;
  backward.result_dq = input(), backward.result_dk = input(), backward.result_dv = input();
  const float* const table = on_device(std::vector<float>(kRows * kHead / 2, 0.5f));
  backward.turn = {indices, table, table, kRows, kHead / 2};
  note(launch_attention_backward(backward, nullptr));
  note(cudaDeviceSynchronize());
  std::printf("%d failures\n", failures);
  return failures;
}
