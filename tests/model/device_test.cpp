// Training on a device whose memory the host cannot read: the same losses, gradients and weights as on the reference,
// bit for bit if the sums are the same, on every kind of layout. Host code that touches a device tensor ends the test
// with a segmentation fault (tests/support/isolated_backend.h).
#include <gtest/gtest.h>

#include "parallel/injected_fault.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

// Weights and gradients come from an arbitrary rank, so they are not compared if the ranks differ.
void expect_the_references_bits(TinyRun run, bool ranks_agree = true) {
  run.device = "reference";
  const TinyResult expected = run_tiny(run);
  run.device = "isolated";
  const TinyResult got = run_tiny(run);
  SCOPED_TRACE(fmt::format("dp {} cp {} tp {} zero {} {}", run.grid.data, run.grid.context, run.grid.tensor, run.zero,
                           name_of(run.compute)));
  EXPECT_EQ(got.loss, expected.loss);
  EXPECT_EQ(got.gradient_norm, expected.gradient_norm);
  if (!ranks_agree) return;
  EXPECT_EQ(got.gradients, expected.gradients);
  EXPECT_EQ(got.weights, expected.weights);
  EXPECT_EQ(got.token_loss, expected.token_loss);
}

TinyRun base_run() {
  TinyRun run;
  run.config = tiny_config();
  run.zero = 0;
  run.steps = 3;
  run.accumulation = 2;
  run.sequences = tiny_sequences(4, 37, 131, {20, 1, 16});
  return run;
}

TEST(TrainingOnADevice, HasTheReferencesBitsOnEveryLayout) {
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 4, 1}, GridShape{1, 1, 2},
                               GridShape{1, 2, 2}, GridShape{2, 1, 1}, GridShape{2, 1, 2}}) {
    TinyRun run = base_run();
    run.grid = grid;
    for (const int zero : {0, 1, 2}) {
      if (zero > 0 && grid.size() == 1) continue;
      run.zero = zero;
      expect_the_references_bits(run);
    }
  }
}

// Fewer key/value heads than tensor ranks: replicas are summed over a separate group.
TEST(TrainingOnADevice, WithReplicatedHeads) {
  TinyRun run = base_run();
  run.grid = {1, 1, 4};
  run.zero = 1;
  expect_the_references_bits(run);
}

TEST(TrainingOnADevice, InEveryTypeAndRecomputation) {
  for (const DType compute : {DType::kFloat32, DType::kBFloat16})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
      TinyRun run = base_run();
      run.grid = {1, 2, 2};
      run.zero = 1;
      run.compute = compute;
      run.recompute = recompute;
      expect_the_references_bits(run);
    }
}

// Deliberate mistakes (injected_fault.h) also take effect on the device, rather than crash.
TEST(TrainingOnADevice, MistakesAreMadeOnTheDeviceToo) {
  for (const InjectedFault mistake :
       {InjectedFault::kDocumentMaskDropped, InjectedFault::kLossWeightDropped, InjectedFault::kWeightsNotGathered}) {
    const ScopedFault broken(mistake);
    TinyRun run = base_run();
    run.grid = {1, 2, 1};
    run.zero = 1;
    expect_the_references_bits(run, mistake != InjectedFault::kWeightsNotGathered);
  }
}

}  // namespace
}  // namespace carillon::testing
