// Attention of the CPU backend in useful GFLOP/s (support.h). Nine query heads, three key/value heads.
//   attention_benchmark [LENGTH...] [--benchmark_filter=attention/bfloat16/forward/64/ ...]
// Cases are named attention/TYPE/forward|both/HEAD SIZE/LENGTH; `both` is forward and backward.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>

#include "tests/benchmarks/support.h"

namespace carillon::benchmarks {
namespace {

void attention(benchmark::State& state, DType type, int64_t length, int64_t head_dim, bool backward) {
  Workspace workspace;
  Backend& backend = workspace.backend();
  const DType wide = accumulate_type(type);
  const Tensor q = workspace.normal(type, {1, length, kHeads, head_dim});
  const Tensor k = workspace.normal(type, {1, length, kKvHeads, head_dim});
  const Tensor v = workspace.normal(type, {1, length, kKvHeads, head_dim});
  const Tensor out = workspace.zeros(type, {1, length, kHeads, head_dim});
  const Tensor lse = workspace.zeros(wide, {1, kHeads, length});
  const AttentionState softmax{workspace.zeros(wide, {1, length, kHeads, head_dim}),
                               workspace.zeros(wide, {1, kHeads, length}), workspace.zeros(wide, {1, kHeads, length})};
  const Tensor index = workspace.indices({length}), first = workspace.indices({1, length}, 0);
  const AttentionMask mask{index, first, index};
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  Tensor dout, delta, dq, dk, dv;
  if (backward) {
    dout = workspace.normal(type, {1, length, kHeads, head_dim});
    delta = workspace.zeros(wide, {1, kHeads, length});
    dq = workspace.zeros(wide, {1, length, kHeads, head_dim});
    dk = workspace.zeros(wide, {1, length, kKvHeads, head_dim});
    dv = workspace.zeros(wide, {1, length, kKvHeads, head_dim});
  }
  const auto pass = [&] {
    backend.attention_begin(softmax);
    backend.attention_forward(softmax, q, k, v, mask, scale);
    backend.attention_finish(out, lse, softmax);
    if (!backward) return;
    for (const Tensor& gradient : {dq, dk, dv}) backend.fill(gradient, 0);
    backend.attention_delta(delta, dout, out);
    backend.attention_backward(dq, dk, dv, q, k, v, dout, out, lse, delta, mask, scale);
  };
  pass();
  for (auto _ : state) pass();
  const double useful = attention_forward_flops(length, kHeads, head_dim) * (backward ? 1 + kBackwardShare : 1);
  state.counters["GFLOP/s"] =
      benchmark::Counter(useful * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

void register_cases(const std::vector<int64_t>& lengths) {
  for (const DType type : {DType::kBFloat16, DType::kFloat32})
    for (const bool backward : {false, true})
      for (const int64_t head_dim : {64, 80, 96, 128})
        for (const int64_t length : lengths) {
          const std::string name =
              fmt::format("attention/{}/{}/{}/{}", name_of(type), backward ? "both" : "forward", head_dim, length);
          benchmark::RegisterBenchmark(
              name.c_str(), [=](benchmark::State& state) { attention(state, type, length, head_dim, backward); })
              ->UseRealTime()
              ->Unit(benchmark::kMillisecond);
        }
}

}  // namespace
}  // namespace carillon::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  try {
    carillon::benchmarks::register_cases(carillon::benchmarks::lengths_of(argc, argv, {2048, 8192}));
    benchmark::RunSpecifiedBenchmarks();
  } catch (const carillon::Error& error) {
    std::fprintf(stderr, "attention_benchmark: error: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
