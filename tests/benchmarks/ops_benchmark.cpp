// Memory-bound ops of the CPU backend in GB/s. A tensor counts once for each time that the op's definition reads or
// writes it. Shapes of SmolLM2-135M at 2048 tokens. Cases are named ops/TYPE/OP.
#include <benchmark/benchmark.h>

#include <functional>

#include "tests/benchmarks/support.h"

namespace carillon::benchmarks {
namespace {

constexpr int64_t kTokens = 2048, kLossRows = 512;

size_t bytes_of(std::initializer_list<Tensor> tensors) {
  size_t bytes = 0;
  for (const Tensor& x : tensors) bytes += x.bytes();
  return bytes;
}

void measure(benchmark::State& state, size_t bytes, const std::function<void()>& op) {
  op();
  for (auto _ : state) op();
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(bytes) * static_cast<double>(state.iterations()) * 1e-9, benchmark::Counter::kIsRate);
}

void rmsnorm(benchmark::State& state, DType type, bool backward) {
  Workspace w;
  const Tensor x = w.normal(type, {kTokens, kHidden}), y = w.zeros(type, {kTokens, kHidden}),
               weight = w.normal(type, {kHidden}), rstd = w.zeros(accumulate_type(type), {kTokens});
  w.backend().rmsnorm_forward(y, rstd, x, weight, 1e-5);
  if (!backward)
    return measure(state, bytes_of({x, y}), [&] { w.backend().rmsnorm_forward(y, rstd, x, weight, 1e-5); });
  const Tensor dx = w.zeros(type, {kTokens, kHidden}), dweight = w.zeros(accumulate_type(type), {kHidden});
  measure(state, bytes_of({x, y, dx}), [&] { w.backend().rmsnorm_backward(dx, dweight, y, x, weight, rstd); });
}

void rotate(benchmark::State& state, DType type) {
  Workspace w;
  const DType wide = accumulate_type(type);
  const Tensor x = w.normal(type, {kTokens, kHeads, kHeadDim}), position = w.indices({kTokens}),
               cosine = w.zeros(wide, {kTokens, kHeadDim / 2}), sine = w.zeros(wide, {kTokens, kHeadDim / 2});
  w.backend().fill(cosine, 0.8);
  w.backend().fill(sine, 0.6);
  measure(state, bytes_of({x, x, cosine, sine}), [&] { w.backend().rotate(x, position, cosine, sine, false); });
}

void swiglu(benchmark::State& state, DType type, bool backward) {
  Workspace w;
  const Tensor gate = w.normal(type, {kTokens, kMlp}), up = w.normal(type, {kTokens, kMlp}),
               y = w.normal(type, {kTokens, kMlp});
  if (!backward) return measure(state, bytes_of({gate, up, y}), [&] { w.backend().swiglu_forward(y, gate, up); });
  const Tensor dgate = w.zeros(type, {kTokens, kMlp}), dup = w.zeros(type, {kTokens, kMlp}),
               again = w.zeros(type, {kTokens, kMlp});
  measure(state, bytes_of({gate, up, y, again, dgate, dup}),
          [&] { w.backend().swiglu_backward(dgate, dup, again, y, gate, up); });
}

// The three ops over a vocabulary, in the order of the network: they read logits of the accumulate type three times and
// write a gradient of the compute type once.
void cross_entropy(benchmark::State& state, DType type) {
  Workspace w;
  const DType wide = accumulate_type(type);
  const Tensor logits = w.normal(wide, {kLossRows, kVocabulary}), gradient = w.zeros(type, {kLossRows, kVocabulary}),
               maximum = w.zeros(wide, {kLossRows}), sums = w.zeros(wide, {2, kLossRows}),
               loss = w.zeros(wide, {kLossRows}), target = w.indices({kLossRows}, 7),
               weight = w.zeros(wide, {kLossRows});
  w.backend().fill(weight, 1);
  measure(state, bytes_of({logits, logits, logits, gradient}), [&] {
    w.backend().cross_entropy_maximum(maximum, logits);
    w.backend().cross_entropy_sums(sums, logits, maximum, target, 0);
    w.backend().cross_entropy_finish(loss, gradient, logits, maximum, sums, target, weight, 0);
  });
}

void adamw(benchmark::State& state, DType type) {
  Workspace w;
  const DType wide = accumulate_type(type);
  const std::initializer_list<int64_t> shape{kVocabulary / 4, kHidden};
  const Tensor master = w.normal(wide, shape), gradient = w.normal(wide, shape), average = w.zeros(wide, shape),
               average_square = w.zeros(wide, shape), weight = type == wide ? master : w.zeros(type, shape);
  const size_t bytes = bytes_of({master, master, gradient, average, average, average_square, average_square}) +
                       (type == wide ? 0 : weight.bytes());
  const AdamWTensors tensors[] = {{weight, master, average, average_square, gradient}};
  measure(state, bytes, [&] { w.backend().adamw(tensors, {.learning_rate = 1e-6}); });
}

// Gradient norm and update of many small tensors, most of them smaller than a thread's share: a model of 8 layers and
// 64 channels.
void small_step(benchmark::State& state, DType type) {
  Workspace w;
  const DType wide = accumulate_type(type);
  std::vector<AdamWTensors> tensors;
  std::vector<Tensor> gradients;
  size_t bytes = 0;
  for (int layer = 0; layer < 8; ++layer)
    for (const int64_t rows : {1, 64, 32, 32, 64, 1, 192, 192, 192}) {
      const Tensor master = w.normal(wide, {rows, 64}), gradient = w.normal(wide, {rows, 64});
      tensors.push_back({type == wide ? master : w.zeros(type, {rows, 64}), master, w.zeros(wide, {rows, 64}),
                         w.zeros(wide, {rows, 64}), gradient, rows > 1});
      gradients.push_back(gradient);
      bytes += 8 * master.bytes() + (type == wide ? 0 : tensors.back().weight.bytes());
    }
  measure(state, bytes, [&] {
    benchmark::DoNotOptimize(w.backend().sum_of_squares(gradients));
    w.backend().adamw(tensors, {.learning_rate = 1e-6});
  });
}

void register_cases() {
  using Case = std::pair<const char*, std::function<void(benchmark::State&, DType)>>;
  const std::vector<Case> cases = {
      {"rmsnorm_forward", [](auto& state, DType type) { rmsnorm(state, type, false); }},
      {"rmsnorm_backward", [](auto& state, DType type) { rmsnorm(state, type, true); }},
      {"rotate", rotate},
      {"swiglu_forward", [](auto& state, DType type) { swiglu(state, type, false); }},
      {"swiglu_backward", [](auto& state, DType type) { swiglu(state, type, true); }},
      {"cross_entropy", cross_entropy},
      {"adamw", adamw},
      {"small_step", small_step},
  };
  for (const DType type : {DType::kBFloat16, DType::kFloat32})
    for (const auto& [name, run] : cases)
      benchmark::RegisterBenchmark(fmt::format("ops/{}/{}", name_of(type), name).c_str(),
                                   [run = run, type](benchmark::State& state) { run(state, type); })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
}

}  // namespace
}  // namespace carillon::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  carillon::benchmarks::register_cases();
  benchmark::RunSpecifiedBenchmarks();
}
