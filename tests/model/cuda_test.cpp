// Training on emulated CUDA, whose streams guarantee only the declared order: every layout against one rank of the
// reference in float64, and changes that must not alter a bit. Acceptance matrix A4-A9, A12, A13 of the project's
// parallelism reference at a tiny size; transformer_test.cpp covers them in full on the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tests/support/host_tensors.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

class TrainingOnCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  }
};

using Tensors = std::map<std::string, std::vector<double>>;

// Relative Frobenius distance of the worst tensor.
double worst_difference(const Tensors& expected, const Tensors& got) {
  double worst = 0;
  for (const auto& [name, values] : expected) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(values[i] - got.at(name)[i], 2);
      size += std::pow(values[i], 2);
    }
    const double relative = std::sqrt(difference / std::max(size, 1e-300));
    EXPECT_TRUE(std::isfinite(relative)) << name;
    worst = std::max(worst, relative);
  }
  return worst;
}

// Packed documents (A4) of a length that no layout divides (A5), and targets of uneven weight, some of them zero (A6).
TinyRun base_run() {
  TinyRun run;
  run.config = tiny_config();
  run.device = "cuda";
  run.zero = 0;
  run.sequences = tiny_sequences(4, 37, 131, {20, 1, 16});
  for (size_t s = 0; s < 4; ++s)
    for (size_t i = 0; i < 37; ++i)
      run.sequences[s].weights.push_back(s == 1 ? (i == 5 ? 1 : 0) : 0.25 * static_cast<double>(i % 5));
  return run;
}

TinyResult on_reference(TinyRun run) {
  run.device = "reference";
  run.grid = {};
  run.zero = 0;
  run.accumulation = 1;
  return run_tiny(run);
}

TEST_F(TrainingOnCuda, EveryLayoutGivesTheReferencesNumbers) {
  TinyRun run = base_run();
  run.steps = 3;
  const TinyResult expected = on_reference(run);
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 4, 1}, GridShape{1, 1, 2},
                               GridShape{1, 2, 2}, GridShape{2, 1, 1}}) {
    if (!enough_devices(grid.size())) continue;
    run.grid = grid;
    run.zero = grid.data > 1 ? 1 : 0;
    run.accumulation = grid.data > 1 ? 2 : 1;
    const TinyResult got = run_tiny(run);
    SCOPED_TRACE(fmt::format("dp {} cp {} tp {}", grid.data, grid.context, grid.tensor));
    for (size_t step = 0; step < expected.loss.size(); ++step) {
      EXPECT_NEAR(got.loss[step], expected.loss[step], 1e-9 * expected.loss[step]) << step;
      EXPECT_NEAR(got.gradient_norm[step], expected.gradient_norm[step], 1e-8 * expected.gradient_norm[step]) << step;
    }
    EXPECT_NEAR(got.loss[0], expected.loss[0], 1e-12 * expected.loss[0]);
    if (run.zero == 0) {
      EXPECT_LT(worst_difference(expected.gradients, got.gradients), 1e-10);
    }
    EXPECT_LT(worst_difference(expected.weights, got.weights), 1e-9);
  }
}

// Fewer key/value heads than tensor ranks, and a vocabulary that they do not divide (A7).
TEST_F(TrainingOnCuda, ReplicatedHeads) {
  if (!enough_devices(2)) GTEST_SKIP();
  TinyRun run = base_run();
  run.config.num_key_value_heads = 1;
  const TinyResult expected = on_reference(run);
  run.grid = {1, 1, 2};
  const TinyResult got = run_tiny(run);
  EXPECT_NEAR(got.loss[0], expected.loss[0], 1e-12 * expected.loss[0]);
  EXPECT_LT(worst_difference(expected.gradients, got.gradients), 1e-10);
}

TEST_F(TrainingOnCuda, NothingLeaksBetweenDocuments) {
  if (!enough_devices(2)) GTEST_SKIP();
  TinyRun run = base_run();
  run.sequences = tiny_sequences(1, 59, 131, {17, 31, 11});
  run.grid = {1, 2, 1};
  const TinyResult before = run_tiny(run);
  run.sequences[0].tokens[20] = (run.sequences[0].tokens[20] + 1) % 131;
  const TinyResult after = run_tiny(run);
  for (int i = 0; i < 59; ++i) EXPECT_EQ(before.token_loss[0][i] != after.token_loss[0][i], i >= 19 && i < 47) << i;
}

// A9, A13: the same bits when repeated, and with every recompute policy.
TEST_F(TrainingOnCuda, RepetitionAndRecomputationChangeNoBit) {
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 2}}) {
    if (!enough_devices(grid.size())) continue;
    TinyRun run = base_run();
    run.grid = grid;
    run.compute = DType::kFloat32;
    run.steps = 2;
    const TinyResult first = run_tiny(run);
    for (const Recompute recompute : {Recompute::kSelective, Recompute::kNone, Recompute::kFull}) {
      run.recompute = recompute;
      const TinyResult again = run_tiny(run);
      EXPECT_EQ(again.loss, first.loss);
      EXPECT_EQ(again.gradients, first.gradients);
      EXPECT_EQ(again.weights, first.weights);
    }
  }
}

// A12
TEST_F(TrainingOnCuda, LossChunksChangeNothing) {
  if (!enough_devices(2)) GTEST_SKIP();
  TinyRun run = base_run();
  const TinyResult expected = on_reference(run);
  run.grid.tensor = 2;
  for (const int64_t chunk : {7, 128}) {
    run.loss_chunk_rows = chunk;
    const TinyResult got = run_tiny(run);
    EXPECT_NEAR(got.loss[0], expected.loss[0], 1e-12);
    EXPECT_LT(worst_difference(expected.gradients, got.gradients), 1e-10);
  }
}

// Heads of 64 in bfloat16 use the tensor cores. The distance from float64 is at most twice that of the reference's
// bfloat16 (A1), and the loss is within 2e-2 (A8).
TEST_F(TrainingOnCuda, BFloat16OnTensorCores) {
  TinyRun run = base_run();
  run.config = parse_model_config(R"({"model_type": "llama", "vocab_size": 131, "hidden_size": 32,
    "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "max_position_embeddings": 128, "initializer_range": 0.1,
    "rope_theta": 10000.0})",
                                  "test");
  run.sequences = tiny_sequences(2, 70, 131, {50, 20});
  run.steps = 3;
  const TinyResult exact = on_reference(run);
  run.compute = DType::kBFloat16;
  const TinyResult rounded = on_reference(run);
  const double bound = worst_difference(exact.gradients, rounded.gradients);
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 1}}) {
    if (!enough_devices(grid.size())) continue;
    run.grid = grid;
    const TinyResult got = run_tiny(run);
    const double distance = worst_difference(exact.gradients, got.gradients);
    fmt::print("cp {}: gradients {:.2e} from float64, the reference's {:.2e}\n", grid.context, distance, bound);
    EXPECT_LE(distance, 2 * bound);
    EXPECT_GT(distance, 0);
    for (size_t step = 0; step < exact.loss.size(); ++step)
      EXPECT_NEAR(got.loss[step], exact.loss[step], 2e-2 * exact.loss[step]) << step;
  }
}

}  // namespace
}  // namespace carillon::testing
