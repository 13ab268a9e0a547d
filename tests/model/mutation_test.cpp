// Tests of the tests (A18): each deliberate mistake of parallel/injected_fault.h must be visible in the values that the
// layout tests compare.
#include "tests/support/mutation.h"

namespace carillon::testing {
namespace {

struct Mutation {
  InjectedFault mistake;
  GridShape grid;  // where it has an effect
};

class MutationTest : public ::testing::TestWithParam<Mutation> {};

TEST_P(MutationTest, IsSeen) {
  TinyRun run;
  run.config = tiny_config();
  run.steps = 2;
  run.learning_rate = 1e-2;
  run.sequences = tiny_sequences(2, 32, 131, {20, 12});
  for (TinySequence& sequence : run.sequences)
    for (int i = 0; i < 32; ++i) sequence.weights.push_back(0.25 * (i % 5));
  expect_seen(run, GetParam().grid, GetParam().mistake);
}

// An exchange that only LongCE makes.
TEST(Mutation, ShortLossesOfOtherRanksAreMissed) {
  TinyRun run;
  run.config = tiny_config();
  run.long_loss = LongLossSettings{6, 4, 5};
  run.sequences = tiny_sequences(2, 32, 131, {20, 12});
  expect_seen(run, {1, 2, 1}, InjectedFault::kShortLossesNotShared);
}

INSTANTIATE_TEST_SUITE_P(Mistakes, MutationTest,
                         ::testing::Values(Mutation{InjectedFault::kRingDropsLastGradientHop, {1, 2, 1}},
                                           Mutation{InjectedFault::kRingDropsLastGradientHop, {1, 4, 1}},
                                           Mutation{InjectedFault::kRingDropsOuterGradientHop, {1, 4, 1, 2}},
                                           Mutation{InjectedFault::kRingWrongChunkOrder, {1, 2, 1}},
                                           Mutation{InjectedFault::kDocumentMaskDropped, {1, 2, 1}},
                                           Mutation{InjectedFault::kReplicatedGradientNotSummed, {1, 1, 2}},
                                           Mutation{InjectedFault::kReplicatedGradientNotSummed, {1, 1, 4}},
                                           Mutation{InjectedFault::kNormCountsReplicas, {1, 1, 2}},
                                           Mutation{InjectedFault::kGradientAveraged, {2, 1, 1}},
                                           Mutation{InjectedFault::kLossWeightDropped, {1, 2, 1}},
                                           Mutation{InjectedFault::kWeightsNotGathered, {1, 2, 1}}),
                         [](const auto& mutation) {
                           return std::string(
                                      injected_fault_names().at(static_cast<size_t>(mutation.param.mistake) - 1)) +
                                  "_" + std::to_string(mutation.index);
                         });

}  // namespace
}  // namespace carillon::testing
