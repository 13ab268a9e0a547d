// Memory bandwidth, and what an op costs that has nothing to do.
#include "launch/bench/bench.h"

namespace carillon {
namespace {

// Three streams of this size are longer than the caches of a rank's cores.
constexpr int64_t kStreamBytes = int64_t{64} << 20;
constexpr int kEmptyOps = 200;  // a clock read costs as much as an op

}  // namespace

void bench_memory(Backend& backend, Communicator& world, double seconds, BenchResult& result) {
  {
    const int64_t count = kStreamBytes / 4;
    Arena arena(backend.allocate(3 * static_cast<size_t>(kStreamBytes)));
    const auto make = [&](double value) {
      const Tensor x = arena.allocate("bench", DType::kFloat32, {count});
      backend.fill(x, value);
      return x;
    };
    const Tensor a = make(1), b = make(2), y = make(0);
    const Timing timing = time_alone(backend, world, seconds * 0.8, [&] { backend.sum(y, a, b); });
    // Two streams read and one written; what a CPU reads of y before it overwrites it is not counted, as no op knows.
    const double rate = 3.0 * static_cast<double>(kStreamBytes) / timing.seconds;
    result.profile.memory_bytes_per_second = rate;
    result.rows.push_back({"memory", "y = a + b, 64 MiB each", fmt::format("{:.2f} GB/s", rate * 1e-9), timing});
  }
  // A norm of one row wakes all threads, as every op on a step's tensors does.
  Arena arena(backend.allocate(4096));
  const Tensor x = arena.allocate("bench", DType::kFloat32, {1, 8}),
               y = arena.allocate("bench", DType::kFloat32, {1, 8}),
               weight = arena.allocate("bench", DType::kFloat32, {8}),
               rstd = arena.allocate("bench", DType::kFloat32, {1});
  backend.fill(x, 1);
  Timing timing = time_alone(backend, world, seconds * 0.2, [&] {
    for (int i = 0; i < kEmptyOps; ++i) backend.rmsnorm_forward(y, rstd, x, weight, 1e-6);
  });
  timing.seconds /= kEmptyOps;
  result.profile.op_seconds = timing.seconds;
  result.rows.push_back({"empty op", "a norm of one row", fmt::format("{:.2f} µs", timing.seconds * 1e6), timing});
}

}  // namespace carillon
