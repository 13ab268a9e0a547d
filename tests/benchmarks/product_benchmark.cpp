// Matrix products of the CPU backend in GFLOP/s: large squares, whose rate is the limit for other figures, and the
// products of SmolLM2-135M at 2048 tokens. Cases are named product/TYPE/SHAPE.
#include <benchmark/benchmark.h>

#include "tests/benchmarks/support.h"

namespace carillon::benchmarks {
namespace {

// c[rows, columns] = op(a) · op(b) with the inner dimension `inner`; a gradient is accumulated into a float32 c.
struct Product {
  const char* name;
  int64_t rows, columns, inner;
  Transpose a = Transpose::kNo, b = Transpose::kNo;
  bool gradient = false;
};

constexpr int64_t kTokens = 2048, kLossRows = 512;
constexpr Transpose kYes = Transpose::kYes, kNo = Transpose::kNo;
constexpr Product kProducts[] = {
    {"square_2048", 2048, 2048, 2048},
    {"square_4096", 4096, 4096, 4096},
    {"square_4096_transposed", 4096, 4096, 4096, kNo, kYes},
    {"attention_projection", kTokens, kHidden, kHidden, kNo, kYes},
    {"mlp_up", kTokens, kMlp, kHidden, kNo, kYes},
    {"mlp_down", kTokens, kHidden, kMlp, kNo, kYes},
    {"mlp_up_input_gradient", kTokens, kHidden, kMlp},
    {"mlp_up_weight_gradient", kMlp, kHidden, kTokens, kYes, kNo, true},
    {"head", kLossRows, kVocabulary, kHidden, kNo, kYes},
    {"head_input_gradient", kLossRows, kHidden, kVocabulary},
    {"head_weight_gradient", kVocabulary, kHidden, kLossRows, kYes, kNo, true},
};

void product(benchmark::State& state, DType type, const Product& p) {
  Workspace workspace;
  const auto operand = [&](int64_t rows, int64_t columns, Transpose transpose) {
    return transpose == kYes ? workspace.normal(type, {columns, rows}) : workspace.normal(type, {rows, columns});
  };
  const Tensor a = operand(p.rows, p.inner, p.a), b = operand(p.inner, p.columns, p.b);
  const Tensor c = workspace.zeros(p.gradient ? accumulate_type(type) : type, {p.rows, p.columns});
  const auto multiply = [&] { workspace.backend().matmul(c, a, b, p.a, p.b, p.gradient); };
  multiply();
  for (auto _ : state) multiply();
  const double flops = 2.0 * static_cast<double>(p.rows * p.columns * p.inner);
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

void register_cases() {
  for (const DType type : {DType::kBFloat16, DType::kFloat32})
    for (const Product& p : kProducts)
      benchmark::RegisterBenchmark(fmt::format("product/{}/{}", name_of(type), p.name).c_str(),
                                   [=](benchmark::State& state) { product(state, type, p); })
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace carillon::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  carillon::benchmarks::register_cases();
  benchmark::RunSpecifiedBenchmarks();
}
