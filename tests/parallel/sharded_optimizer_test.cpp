// Reductions during a backward pass, with one rank that is late: the queues of the others continue meanwhile, and no
// rank takes a step with incomplete sums. The result does not depend on the order of the streams, because the late
// rank's part cannot have arrived. On emulated CUDA, and in host memory, where reductions are made immediately.
#include "parallel/optimizer/sharded_optimizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "parallel/injected_fault.h"
#include "parallel/transport/thread_communicator.h"
#include "tests/support/device_memory.h"

namespace carillon::testing {
namespace {

constexpr int64_t kRows = 6, kColumns = 4, kLayers = 3;

// Waits until `condition` is true, at most 20 s.
bool comes_true(const std::atomic<bool>& condition) {
  for (int i = 0; i < 20000 && !condition; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return condition;
}

// One weight per layer and one at the end; at stage 2 the gradients of every other layer share memory.
struct Model {
  Model(Backend& device, int zero, Arena& arena) : backend(device) {
    std::vector<Tensor> shared;
    for (int64_t layer = -1; layer < kLayers; ++layer) {
      ParameterShard parameter;
      parameter.name = fmt::format("{}", layer);
      parameter.rectangle = Rectangle::whole({kRows, kColumns});
      parameter.weight = arena.allocate("weights", DType::kFloat64, {kRows, kColumns});
      const bool borrows = zero == 2 && layer >= 2;
      parameter.gradient = borrows ? shared[static_cast<size_t>(layer - 2)]
                                   : arena.allocate("gradients", DType::kFloat64, {kRows, kColumns});
      if (layer >= 0) shared.push_back(parameter.gradient);
      parameter.overwritten = true;
      parameter.group = layer;
      parameters.push_back(parameter);
    }
  }
  // The backward pass of one layer: writes `value` everywhere.
  void backward(int64_t layer, double value) {
    backend.fill(parameters[static_cast<size_t>(layer + 1)].gradient, value);
  }

  Backend& backend;
  std::vector<ParameterShard> parameters;
};

// The gradient norm of two ranks when rank 1 is late with the reduction of layer 2 and with the last one. Returns -1 if
// rank 0's queue did not continue while it waited.
double norm_with_a_late_rank(const char* device, int zero) {
  std::atomic<bool> went_on = false, late = false;
  std::atomic<double> norm = 0;
  const bool waits = std::string_view(device) != "cuda";  // reductions are immediate, so no rank can be late
  run_ranks(2, [&](std::unique_ptr<Communicator> world) {
    const int rank = world->rank();
    const auto backend = make_test_backend({.device = device, .threads = 1, .device_index = rank});
    ProcessGrid grid = make_process_grid(std::move(world), {2, 1, 1}, 1);
    for_device(*backend, grid);
    ShardedOptimizer::Options options;
    options.zero = zero;
    Arena measuring;
    { ShardedOptimizer(*backend, grid, Model(*backend, zero, measuring).parameters, options, measuring); }
    Arena arena(backend->allocate(measuring.peak()));
    Model model(*backend, zero, arena);
    ShardedOptimizer optimizer(*backend, grid, model.parameters, options, arena);
    for (const ParameterShard& parameter : model.parameters) backend->fill(parameter.weight, 1);
    optimizer.start_from_weights();

    optimizer.zero_gradients();
    optimizer.begin_micro_step(true);
    for (int64_t layer = kLayers - 1; layer >= 0; --layer) {
      model.backward(layer, static_cast<double>(1 + layer + 10 * rank));
      if (rank == 1 && layer == kLayers - 1 && !waits && !comes_true(went_on)) late = true;
      optimizer.group_done(layer);
      if (rank == 0 && layer == kLayers - 1) {
        // Rank 1 has not called yet, so its part of the sum is missing. The next layer's computation does not need it.
        model.backward(layer - 1, 7);
        std::vector<double> seen(kRows * kColumns);
        backend->download(Tensor::of(seen, {kRows, kColumns}), model.parameters[static_cast<size_t>(layer)].gradient);
        EXPECT_EQ(seen, std::vector<double>(kRows * kColumns, 7));
        went_on = true;
      }
    }
    model.backward(-1, static_cast<double>(100 + rank));
    // Gives a rank that does not wait the time to compute its norm; a rank that waits cannot finish in it.
    if (rank == 1 && !waits) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    optimizer.after_micro_step();
    const auto outcome = optimizer.step(2, 1e-3, .9);
    if (rank == 0) norm = outcome.gradient_norm;
  });
  return late ? -1 : norm.load();
}

// The layers' sums are 12, 14, 16, and the last is 201; all are divided by two targets.
double right_norm() { return std::sqrt(kRows * kColumns * (12.0 * 12 + 14 * 14 + 16 * 16 + 201.0 * 201)) / 2; }

TEST(ShardedOptimizer, SumsOnTheHost) {
  for (const int zero : {0, 1, 2}) EXPECT_NEAR(norm_with_a_late_rank("reference", zero), right_norm(), 1e-10) << zero;
}

class ShardedOptimizerOnCuda : public ::testing::Test {
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  }
};

TEST_F(ShardedOptimizerOnCuda, BackwardGoesOnBesideReductionsAndAStepWaitsForThem) {
  for (const int zero : {0, 1, 2}) EXPECT_NEAR(norm_with_a_late_rank("cuda", zero), right_norm(), 1e-10) << zero;
}

// Negative controls: without the wait in step() the norm is computed from incomplete sums, in every order of the
// streams.
TEST_F(ShardedOptimizerOnCuda, AWaitLeftOutIsNoticed) {
  for (const auto& [mistake, zero] : {std::pair(InjectedFault::kGradientsNotAwaited, 0),
                                      {InjectedFault::kGradientsNotAwaited, 1},
                                      {InjectedFault::kGradientsNotAwaited, 2},
                                      {InjectedFault::kCollectiveNotAwaited, 1}}) {
    const ScopedFault broken(mistake);
    EXPECT_GT(std::abs(norm_with_a_late_rank("cuda", zero) - right_norm()), 1) << zero;
  }
}

}  // namespace
}  // namespace carillon::testing
