// Attention of the CPU backend: useful GFLOP/s, 2·T²·NH·HD forward (causal half of 4·T²), 2.5 times that backward.
#include <benchmark/benchmark.h>

#include <cmath>
#include <numeric>

#include "runtime/backend.h"

namespace {

using namespace carillon;

void attention(benchmark::State& state, DType type, bool backward) {
  const int64_t tokens = state.range(0), heads = 9, kv_heads = 3, width = 64;
  const auto backend = make_backend({.device = "cpu"});
  const DType wide = accumulate_type(type);
  Arena arena(backend->allocate(static_cast<size_t>(tokens * heads * width * 80 + (1 << 20))));
  const auto make = [&](DType dtype, std::initializer_list<int64_t> shape) {
    const Tensor x = arena.allocate("x", dtype, shape);
    backend->fill(x, 0.01);
    return x;
  };
  const Tensor q = make(type, {1, tokens, heads, width}), out = make(type, {1, tokens, heads, width}),
               dout = make(type, {1, tokens, heads, width}), k = make(type, {1, tokens, kv_heads, width}),
               v = make(type, {1, tokens, kv_heads, width}), lse = make(wide, {1, heads, tokens}),
               delta = make(wide, {1, heads, tokens}), dq = make(wide, {1, tokens, heads, width}),
               dk = make(wide, {1, tokens, kv_heads, width}), dv = make(wide, {1, tokens, kv_heads, width});
  const AttentionState softmax{make(wide, {1, tokens, heads, width}), make(wide, {1, heads, tokens}),
                               make(wide, {1, heads, tokens})};
  std::vector<int64_t> index(static_cast<size_t>(tokens)), first(index.size());
  std::iota(index.begin(), index.end(), 0);
  const AttentionMask mask{Tensor::of(index, {tokens}), Tensor::of(first, {1, tokens}), Tensor::of(index, {tokens})};
  const double scale = 1 / std::sqrt(64.0);
  const auto forward = [&] {
    backend->attention_begin(softmax);
    backend->attention_forward(softmax, q, k, v, mask, scale);
    backend->attention_finish(out, lse, softmax);
  };
  forward();
  for (auto _ : state) {
    if (backward)
      backend->attention_backward(dq, dk, dv, q, k, v, dout, lse, delta, mask, scale);
    else
      forward();
  }
  const double useful = 2.0 * static_cast<double>(tokens * tokens * heads * width) * (backward ? 2.5 : 1.0);
  state.counters["GFLOP/s"] =
      benchmark::Counter(useful * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

BENCHMARK_CAPTURE(attention, float32_forward, DType::kFloat32, false)->Arg(2048)->Arg(8192)->UseRealTime();
BENCHMARK_CAPTURE(attention, float32_backward, DType::kFloat32, true)->Arg(2048)->Arg(8192)->UseRealTime();
BENCHMARK_CAPTURE(attention, bfloat16_forward, DType::kBFloat16, false)->Arg(2048)->Arg(8192)->UseRealTime();
BENCHMARK_CAPTURE(attention, bfloat16_backward, DType::kBFloat16, true)->Arg(2048)->Arg(8192)->UseRealTime();
BENCHMARK_CAPTURE(attention, float64_forward, DType::kFloat64, false)->Arg(2048)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
