// Attention's kernels for every type and head size on small causal problems, with a real thread for every thread of a
// block, under ThreadSanitizer. Two tiles of either side and two query heads per key/value head, so that all shared
// memory is reused; the last tile is ragged.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda_runtime.h"
#include "runtime/cuda/attention/attention_kernels.h"

using namespace carillon::cuda;

namespace {

constexpr int kHeads = 2, kHeadSize = 5;

void* on_device(const void* values, size_t bytes) {
  void* pointer = nullptr;
  if (cudaMalloc(&pointer, bytes) != cudaSuccess) return nullptr;
  cudaMemcpy(pointer, values, bytes, cudaMemcpyHostToDevice);
  return pointer;
}
template <class T>
T* on_device(const std::vector<T>& values) {
  return static_cast<T*>(on_device(values.data(), values.size() * sizeof(T)));
}

// T and A as the host stores them; bfloat16 as its bits.
template <class T, class A>
int run(Type type, int64_t rows, T one) {
  const auto heads = [&](int count, auto value) {
    using Element = decltype(value);
    const std::vector<Element> values(static_cast<size_t>(rows * count * kHeadSize), value);
    return HeadsView{on_device(values), rows * count * kHeadSize, count * kHeadSize, kHeadSize};
  };
  const auto statistic = [&](A value) {
    return StatisticView{on_device(std::vector<A>(static_cast<size_t>(rows * kHeads), value)), rows * kHeads, rows};
  };
  std::vector<int64_t> index(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) index[static_cast<size_t>(i)] = i;

  AttentionProblem problem;
  problem.type = type;
  problem.batch = problem.kv_heads = 1;
  problem.heads = kHeads;
  problem.rows = problem.keys = rows;
  problem.head_size = kHeadSize;
  problem.scale = 0.125;
  problem.q = heads(kHeads, one), problem.k = heads(1, one), problem.v = heads(1, one);
  problem.query_index = problem.key_index = on_device(index);
  problem.first = on_device(std::vector<int64_t>(static_cast<size_t>(rows), 0));
  problem.first_batch = rows;
  int failures = 0;
  const auto note = [&](cudaError_t error) { failures += error != cudaSuccess; };
  note(launch_attention_forward_general({problem, heads(kHeads, A(0)), statistic(0), statistic(0)}, nullptr));
  note(launch_attention_backward_general(
      {problem, heads(kHeads, A(0)), heads(1, A(0)), heads(1, A(0)), heads(kHeads, one), statistic(1), statistic(1)},
      nullptr));
  // With both ends in a call, gradients turned back.
  AttentionForward forward{problem, heads(kHeads, A(0)), statistic(0), statistic(0)};
  forward.first = true, forward.out = heads(kHeads, one), forward.lse = statistic(0);
  note(launch_attention_forward_general(forward, nullptr));
  AttentionBackward backward{problem,      heads(kHeads, A(0)), heads(1, A(0)), heads(1, A(0)), heads(kHeads, one),
                             statistic(1), statistic(1)};
  backward.first = backward.first_keys = true, backward.out = heads(kHeads, one);
  backward.result_dq = heads(kHeads, one), backward.result_dk = heads(1, one), backward.result_dv = heads(1, one);
  const A* const table = on_device(std::vector<A>(static_cast<size_t>(rows * (kHeadSize / 2)), A(1)));
  backward.turn = {problem.query_index, table, table, rows, kHeadSize / 2};
  note(launch_attention_backward_general(backward, nullptr));
  return failures;
}

}  // namespace

int main() {
  int failures = run<double, double>(Type::kFloat64, 20, 1.0);  // tiles of 16 rows
  failures += run<float, float>(Type::kFloat32, 40, 1.0f);      // of 32
  failures += run<uint16_t, float>(Type::kBFloat16, 40, uint16_t{0x3f80});
  failures += cudaDeviceSynchronize() != cudaSuccess;
  std::printf("%d failures\n", failures);
  return failures;
}
