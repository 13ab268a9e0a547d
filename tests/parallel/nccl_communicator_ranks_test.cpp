// The same over processes: NCCL's unique id is sent over MPI, and the groups of a process take turns.
#include <cstdlib>

#include "tests/parallel/communicator_cases.h"
#include "tests/support/device_memory.h"
#include "tests/support/mpi_world.h"

namespace carillon::testing {
namespace {

class NcclOverProcesses : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
    auto world = mpi_world();
    backend_ = make_test_backend({.device = "cuda", .device_index = world->rank()});
    group_ = for_device(*backend_, std::move(world));
  }
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Communicator> group_;
};

TEST_F(NcclOverProcesses, KeepsEveryCase) {
  ASSERT_TRUE(device_transport_of(*group_)->describe().starts_with("NCCL"));
  const auto group = through_device(*backend_, std::move(group_));
  expect_exact_sums_in_every_type(*group);
  expect_sums_to_repeat(*group);
  expect_extremes(*group);
  expect_gather_with_uneven_rows(*group);
  expect_broadcast(*group);
  expect_exchanges_match_in_order(*group);
  expect_collectives_under_way(*group);
  expect_split(*group);
  expect_agreement(*group);
  expect_traffic_counts(*group);
}

// An exchange of one group is in flight while another group reduces: the calls have the same order on every rank.
TEST_F(NcclOverProcesses, GroupsTakeTurns) {
  const auto other = group_->split(0, -group_->rank(), "other");
  DeviceMemory memory(*backend_);
  for (int round = 0; round < 20; ++round) {
    const int down = (group_->rank() + group_->size() - 1) % group_->size(), up = (group_->rank() + 1) % group_->size();
    std::vector<double> sent(1000, group_->rank() + round), got(1000), summed(100, 1.0 + group_->rank());
    const Tensor there = memory.give(Tensor::of(sent, {1000})), back = memory.give(Tensor::of(got, {1000}));
    const Tensor sum = memory.give(Tensor::of(summed, {100}));
    auto transfer = group_->start_exchange(there, down, back, up);
    other->all_reduce(sum, Reduction::kSum);
    backend_->scale(sum, 2);
    transfer->wait();
    backend_->scale(back, 10);
    memory.take(Tensor::of(got, {1000}), back);
    memory.take(Tensor::of(summed, {100}), sum);
    ASSERT_EQ(got, std::vector<double>(1000, 10.0 * (up + round)));
    ASSERT_EQ(summed, std::vector<double>(100, static_cast<double>(group_->size() * (group_->size() + 1))));
  }
}

}  // namespace
}  // namespace carillon::testing
