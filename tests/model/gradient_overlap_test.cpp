// Gradients reduced during the backward pass: every ZeRO stage, with and without accumulation, over data ranks and over
// tensor ranks that hold the same parameters, against one rank in float64. On the host, and on emulated CUDA in the
// adversarial orders of its streams (CMakeLists.txt).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

TinyRun base_run() {
  TinyRun run;
  run.config = tiny_config();
  set_depth(run.config, 3);  // the third layer reuses memory of the first; with two layers none is reused
  run.steps = 2;
  run.learning_rate = 1e-2;
  run.sequences = tiny_sequences(4, 24, 131, {10, 14});
  return run;
}

// The largest relative difference of losses, norms and weights.
double distance(const TinyResult& expected, const TinyResult& got) {
  double worst = 0;
  const auto see = [&](double a, double b, double size) {
    const double relative = std::abs(a - b) / size;
    worst = std::isfinite(relative) ? std::max(worst, relative) : 1e300;
  };
  for (size_t step = 0; step < expected.loss.size(); ++step) {
    see(expected.loss[step], got.loss[step], expected.loss[step]);
    see(expected.gradient_norm[step], got.gradient_norm[step], expected.gradient_norm[step]);
  }
  for (const auto& [name, values] : expected.weights)
    for (size_t i = 0; i < values.size(); ++i) see(values[i], got.weights.at(name)[i], 1);
  return worst;
}

struct Case {
  GridShape grid;
  bool tied;
  int zero, accumulation;
};

// For both kinds of device; `all` adds cases for the one with cheap runs.
std::vector<Case> cases(bool all) {
  std::vector<Case> list;
  for (const int zero : {0, 1, 2})
    for (const int accumulation : {1, 2}) list.push_back({{2, 1, 1}, zero == 1, zero, accumulation});
  list.push_back({{1, 1, 4}, true, 0, 1});  // each key and value head is on two ranks
  if (!all) return list;
  for (const int zero : {0, 1, 2})
    for (const int accumulation : {1, 2})
      for (const GridShape grid : {GridShape{2, 1, 1}, {2, 1, 2}, {1, 2, 1}, {2, 1, 4}})
        list.push_back({grid, zero != 1, zero, accumulation});
  return list;
}

void expect_one_ranks_numbers(const char* device, bool all) {
  std::map<bool, TinyResult> one_rank;
  for (const bool tied : {false, true}) {
    TinyRun run = base_run();
    run.config.tie_word_embeddings = tied;
    run.zero = 0;
    one_rank[tied] = run_tiny(run);
  }
  for (const Case& c : cases(all)) {
    SCOPED_TRACE(fmt::format("dp {} cp {} tp {} ZeRO {} accumulation {} {}", c.grid.data, c.grid.context, c.grid.tensor,
                             c.zero, c.accumulation, c.tied ? "tied" : "untied"));
    TinyRun run = base_run();
    run.device = device;
    run.config.tie_word_embeddings = c.tied;
    run.grid = c.grid, run.zero = c.zero, run.accumulation = c.accumulation;
    const TinyResult expected = one_rank[c.tied], got = run_tiny(run);
    EXPECT_LT(distance(expected, got), 1e-9);
    EXPECT_EQ(got.gradients.empty(), c.zero != 0);
    for (const auto& [name, values] : got.gradients)  // summed over all ranks, and the same on each
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_NEAR(values[i], expected.gradients.at(name)[i], 1e-9 * (1 + std::abs(values[i]))) << name;
  }
}

TEST(GradientOverlap, EqualsOneRankOnTheHost) { expect_one_ranks_numbers("reference", true); }
TEST(GradientOverlap, EqualsOneRankOnADeviceOverTheHost) { expect_one_ranks_numbers("isolated", false); }

TEST(GradientOverlapOnCuda, EqualsOneRank) {
  if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  expect_one_ranks_numbers("cuda", false);
}

}  // namespace
}  // namespace carillon::testing
