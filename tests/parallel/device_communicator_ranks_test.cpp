// The same over MPI: device tensors and host tensors in one group of processes.
#include "parallel/transport/device_communicator.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/support/device_memory.h"
#include "tests/support/mpi_world.h"

namespace carillon::testing {
namespace {

TEST(DeviceCommunicatorOverMpi, KeepsEveryCase) {
  const auto backend = make_test_backend({.device = "isolated", .threads = 1});
  const auto group = through_device(*backend, for_device(*backend, mpi_world()));
  expect_all_reduce_in_rank_order(*group);
  expect_bfloat16_sums_round_once(*group);
  expect_extremes(*group);
  expect_a_nan_to_win(*group);
  expect_gather_with_uneven_rows(*group);
  expect_scatter_with_uneven_rows(*group);
  expect_broadcast(*group);
  expect_exchanges_match_in_order(*group);
  expect_collectives_under_way(*group);
  expect_split(*group);
  expect_agreement(*group);
  expect_traffic_counts(*group);
}

}  // namespace
}  // namespace carillon::testing
