#include <gtest/gtest.h>

#include "parallel/transport/mpi_environment.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/support/mpi_world.h"

namespace carillon::testing {
namespace {

// With whole messages, and with messages cut into odd sizes, as is done for tensors beyond the limit of MPI's 32-bit
// counts.
class MpiCommunicatorTest : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { set_mpi_message_limit(GetParam()); }
  void TearDown() override { set_mpi_message_limit(0); }
  std::unique_ptr<Communicator> world_ = mpi_world();
};

TEST_P(MpiCommunicatorTest, AllReduceInRankOrder) { expect_all_reduce_in_rank_order(*world_); }
TEST_P(MpiCommunicatorTest, Bfloat16SumsRoundOnce) { expect_bfloat16_sums_round_once(*world_); }
TEST_P(MpiCommunicatorTest, Extremes) { expect_extremes(*world_); }
TEST_P(MpiCommunicatorTest, ANanWins) { expect_a_nan_to_win(*world_); }
TEST_P(MpiCommunicatorTest, GatherWithUnevenRows) { expect_gather_with_uneven_rows(*world_); }
TEST_P(MpiCommunicatorTest, ScatterWithUnevenRows) { expect_scatter_with_uneven_rows(*world_); }
TEST_P(MpiCommunicatorTest, Broadcast) { expect_broadcast(*world_); }
TEST_P(MpiCommunicatorTest, ExchangesMatchInOrder) { expect_exchanges_match_in_order(*world_); }
TEST_P(MpiCommunicatorTest, CollectivesUnderWay) { expect_collectives_under_way(*world_); }
TEST_P(MpiCommunicatorTest, Split) { expect_split(*world_); }
TEST_P(MpiCommunicatorTest, Agreement) { expect_agreement(*world_); }
TEST_P(MpiCommunicatorTest, TrafficCounts) { expect_traffic_counts(*world_); }
INSTANTIATE_TEST_SUITE_P(MessageLimit, MpiCommunicatorTest, ::testing::Values(0, 1000));

}  // namespace
}  // namespace carillon::testing
