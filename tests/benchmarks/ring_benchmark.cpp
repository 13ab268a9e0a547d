// Zigzag ring attention with nine query heads and three key/value heads of 64. Rank 0 prints the useful GFLOP/s of all
// ranks together as JSON. On one rank this is the backend's attention as RingAttention calls it.
//   [mpirun -n N] ring_benchmark [LENGTH...]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "parallel/context/ring_attention.h"
#include "parallel/transport/mpi_environment.h"
#include "tests/benchmarks/support.h"

namespace carillon::benchmarks {
namespace {

// Seconds between two barriers, the same on all ranks except for noise.
template <class Body>
double seconds_of(Communicator& cp, const Body& body) {
  cp.barrier();
  const auto begin = std::chrono::steady_clock::now();
  body();
  cp.barrier();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Medians over at least three passes and two seconds.
struct Times {
  double forward = 0, both = 0;
  int64_t passes = 0;
};

Times measure(Communicator& cp, DType type, int64_t length) {
  constexpr int64_t kFewestPasses = 3;
  constexpr double kLeastSeconds = 2;
  Workspace workspace;
  const SequenceLayout layout(LayoutKind::kZigzag, length, cp.size(), 1);
  const RingAttention::Shape shape{1, kHeads, kKvHeads, kHeadDim, type};
  Arena measuring;
  RingAttention(workspace.backend(), cp, layout, shape, measuring).allocate_work(measuring);
  Arena arena(workspace.backend().allocate(measuring.peak()));
  RingAttention attention(workspace.backend(), cp, layout, shape, arena);
  attention.allocate_work(arena);

  const int64_t local = layout.local();
  const auto queries = [&] { return workspace.normal(type, {1, local, kHeads, kHeadDim}); };
  const auto keys = [&] { return workspace.normal(type, {1, local, kKvHeads, kHeadDim}); };
  const Tensor q = queries(), dout = queries(), k = keys(), v = keys(), out = queries(), dq = queries(), dk = keys(),
               dv = keys(), lse = workspace.zeros(accumulate_type(type), {1, kHeads, local});
  attention.set_mask(0, workspace.indices({1, local}, 0));
  const double scale = 1 / std::sqrt(static_cast<double>(kHeadDim));
  const auto forward = [&] { attention.forward(out, lse, q, k, v, {scale}); };
  const auto backward = [&] { attention.backward(dq, dk, dv, dout, q, k, v, out, lse, {scale}); };
  forward();
  backward();

  std::vector<double> forwards, boths;
  double total = 0;
  do {
    forwards.push_back(seconds_of(cp, forward));
    boths.push_back(forwards.back() + seconds_of(cp, backward));
    total += boths.back();
  } while (cp.sum(int64_t{static_cast<int64_t>(boths.size()) < kFewestPasses || total < kLeastSeconds}) > 0);
  const auto median = [](std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  };
  return {median(forwards), median(boths), static_cast<int64_t>(boths.size())};
}

void run(Communicator& cp, const std::vector<int64_t>& lengths) {
  const int threads = make_backend({.device = "cpu"})->describe().threads;
  std::vector<std::string> records;
  for (const DType type : {DType::kBFloat16, DType::kFloat32})
    for (const int64_t length : lengths) {
      const Times times = measure(cp, type, length);
      const double flops = attention_forward_flops(length, kHeads, kHeadDim) * 1e-9;
      records.push_back(fmt::format(
          R"({{"type":"{}","length":{},"ranks":{},"threads":{},"passes":{},"forward":{:.2f},"both":{:.2f}}})",
          name_of(type), length, cp.size(), threads, times.passes, flops / times.forward,
          flops * (1 + kBackwardShare) / times.both));
    }
  if (cp.rank() == 0) std::printf("[%s]\n", fmt::format("{}", fmt::join(records, ",\n ")).c_str());
}

}  // namespace
}  // namespace carillon::benchmarks

int main(int argc, char** argv) {
  using namespace carillon;
  std::unique_ptr<MpiEnvironment> mpi;
  if (started_under_mpi()) mpi = std::make_unique<MpiEnvironment>();
  try {
    const std::vector<int64_t> lengths = benchmarks::lengths_of(argc, argv, {8192});
    const auto cp = mpi ? mpi->world() : solo_communicator("cp");
    benchmarks::run(*cp, lengths);
  } catch (const Error& error) {
    std::fprintf(stderr, "ring_benchmark: error: %s\n", error.what());
    if (mpi) mpi->abort(static_cast<int>(error.code()));
    return static_cast<int>(error.code());
  }
}
