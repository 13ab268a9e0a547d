#include "parallel/transport/thread_communicator.h"

#include "tests/parallel/communicator_cases.h"

namespace carillon::testing {
namespace {

class ThreadCommunicatorTest : public ::testing::TestWithParam<int> {
 protected:
  void on_all(void (*run)(Communicator&)) {
    run_ranks(GetParam(), [&](std::unique_ptr<Communicator> world) { run(*world); });
  }
};

TEST_P(ThreadCommunicatorTest, AllReduceInRankOrder) { on_all(expect_all_reduce_in_rank_order); }
TEST_P(ThreadCommunicatorTest, Bfloat16SumsRoundOnce) { on_all(expect_bfloat16_sums_round_once); }
TEST_P(ThreadCommunicatorTest, Extremes) { on_all(expect_extremes); }
TEST_P(ThreadCommunicatorTest, ANanWins) { on_all(expect_a_nan_to_win); }
TEST_P(ThreadCommunicatorTest, GatherWithUnevenRows) { on_all(expect_gather_with_uneven_rows); }
TEST_P(ThreadCommunicatorTest, ScatterWithUnevenRows) { on_all(expect_scatter_with_uneven_rows); }
TEST_P(ThreadCommunicatorTest, Broadcast) { on_all(expect_broadcast); }
TEST_P(ThreadCommunicatorTest, ExchangesMatchInOrder) { on_all(expect_exchanges_match_in_order); }
TEST_P(ThreadCommunicatorTest, CollectivesUnderWay) { on_all(expect_collectives_under_way); }
TEST_P(ThreadCommunicatorTest, Split) { on_all(expect_split); }
TEST_P(ThreadCommunicatorTest, Agreement) { on_all(expect_agreement); }
TEST_P(ThreadCommunicatorTest, TrafficCounts) { on_all(expect_traffic_counts); }
INSTANTIATE_TEST_SUITE_P(Ranks, ThreadCommunicatorTest, ::testing::Values(2, 3, 4));

TEST(ThreadCommunicator, AFailingRankWakesTheOthersAndItsErrorComesOut) {
  try {
    run_ranks(3, [](std::unique_ptr<Communicator> world) {
      if (world->rank() == 2) fail(ExitCode::kBadInput, "rank two is unhappy");
      world->barrier();
      world->barrier();
    });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "rank two is unhappy");
  }
}

TEST(SoloCommunicator, CopiesOrDoesNothing) {
  const auto solo = solo_communicator("solo");
  std::vector<double> x{1, 2, 3}, y(3);
  solo->all_reduce(Tensor::of(x, {3}), Reduction::kSum);
  solo->all_gather(Tensor::of(y, {3}), Tensor::of(x, {3}));
  EXPECT_EQ(y, x);
  std::vector<double> z(3);
  solo->start_reduce_scatter(Tensor::of(z, {3}), Tensor::of(x, {3}))->wait();
  EXPECT_EQ(z, x);
  EXPECT_EQ(solo->traffic().total_bytes(), 0);
  EXPECT_THROW(agree(*solo, [] { fail(ExitCode::kBadInput, "alone"); }), Error);
}

}  // namespace
}  // namespace carillon::testing
