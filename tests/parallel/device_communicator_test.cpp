// The cases that every communicator must pass, with tensors in device memory and ranks as threads.
#include "parallel/transport/device_communicator.h"

#include "parallel/transport/thread_communicator.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/support/device_memory.h"

namespace carillon::testing {
namespace {

class DeviceCommunicatorTest : public ::testing::TestWithParam<int> {
 protected:
  void on_all(void (*run)(Communicator&)) {
    run_ranks(GetParam(), [&](std::unique_ptr<Communicator> world) {
      const auto backend = make_test_backend({.device = "isolated", .threads = 1});
      const auto group = through_device(*backend, for_device(*backend, std::move(world)));
      run(*group);
    });
  }
};

TEST_P(DeviceCommunicatorTest, AllReduceInRankOrder) { on_all(expect_all_reduce_in_rank_order); }
TEST_P(DeviceCommunicatorTest, Bfloat16SumsRoundOnce) { on_all(expect_bfloat16_sums_round_once); }
TEST_P(DeviceCommunicatorTest, Extremes) { on_all(expect_extremes); }
TEST_P(DeviceCommunicatorTest, ANanWins) { on_all(expect_a_nan_to_win); }
TEST_P(DeviceCommunicatorTest, GatherWithUnevenRows) { on_all(expect_gather_with_uneven_rows); }
TEST_P(DeviceCommunicatorTest, ScatterWithUnevenRows) { on_all(expect_scatter_with_uneven_rows); }
TEST_P(DeviceCommunicatorTest, Broadcast) { on_all(expect_broadcast); }
TEST_P(DeviceCommunicatorTest, ExchangesMatchInOrder) { on_all(expect_exchanges_match_in_order); }
TEST_P(DeviceCommunicatorTest, CollectivesUnderWay) { on_all(expect_collectives_under_way); }
TEST_P(DeviceCommunicatorTest, Split) { on_all(expect_split); }
TEST_P(DeviceCommunicatorTest, Agreement) { on_all(expect_agreement); }
TEST_P(DeviceCommunicatorTest, TrafficCounts) { on_all(expect_traffic_counts); }
INSTANTIATE_TEST_SUITE_P(Ranks, DeviceCommunicatorTest, ::testing::Values(2, 3, 4));

// Host tensors use the host's communicator, although the group also has one for the device.
TEST(DeviceCommunicator, HostTensorsStayOnTheHost) {
  run_ranks(3, [](std::unique_ptr<Communicator> world) {
    const auto backend = make_test_backend({.device = "isolated", .threads = 1});
    const auto group = for_device(*backend, std::move(world));
    expect_all_reduce_in_rank_order(*group);
    expect_gather_with_uneven_rows(*group);
    expect_scatter_with_uneven_rows(*group);
    expect_exchanges_match_in_order(*group);
  });
}

TEST(DeviceCommunicator, OneTensorHereAndOneThereIsAMistakeThatIsNamed) {
  run_ranks(2, [](std::unique_ptr<Communicator> world) {
    const auto backend = make_test_backend({.device = "isolated", .threads = 1});
    const auto group = for_device(*backend, std::move(world));
    DeviceMemory memory(*backend);
    std::vector<float> own(4), all(8);
    const Tensor device = memory.give(Tensor::of(own, {4}));
    EXPECT_THROW(group->all_gather(Tensor::of(all, {8}), device), InternalError);
  });
}

// A group of one copies on the device, without any transport.
TEST(DeviceCommunicator, AGroupOfOneCopies) {
  const auto backend = make_test_backend({.device = "isolated", .threads = 1});
  const auto group = through_device(*backend, for_device(*backend, solo_communicator("solo")));
  std::vector<double> x{1, 2, 3}, y(3), z(3), w(3);
  group->all_reduce(Tensor::of(x, {3}), Reduction::kSum);
  group->all_gather(Tensor::of(y, {3}), Tensor::of(x, {3}));
  group->reduce_scatter(Tensor::of(z, {3}), Tensor::of(x, {3}));
  group->start_exchange(Tensor::of(x, {3}), 0, Tensor::of(w, {3}), 0)->wait();
  EXPECT_EQ(x, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(y, x);
  y = {0, 0, 0}, z = {0, 0, 0};
  group->start_all_reduce(Tensor::of(x, {3}), Reduction::kSum)->wait();
  group->start_all_gather(Tensor::of(y, {3}), Tensor::of(x, {3}))->wait();
  group->start_reduce_scatter(Tensor::of(z, {3}), Tensor::of(x, {3}))->wait();
  EXPECT_EQ(y, x);
  EXPECT_EQ(z, x);
  EXPECT_EQ(w, x);
  EXPECT_EQ(group->traffic().total_bytes(), 0);
}

// The control of all tests on the isolated device: host code that reads its memory crashes.
TEST(IsolatedBackendDeathTest, AReadByTheHostIsASegmentationFault) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto backend = make_test_backend({.device = "isolated", .threads = 1});
  const Buffer buffer = backend->allocate(64);
  EXPECT_TRUE(backend->holds(buffer.data()));
  EXPECT_TRUE(backend->holds(static_cast<char*>(buffer.data()) + 63));
  EXPECT_EXIT((void)*static_cast<volatile char*>(buffer.data()), ::testing::KilledBySignal(SIGSEGV), "");
  std::vector<float> host(4);
  EXPECT_FALSE(backend->holds(host.data()));
  EXPECT_THROW(backend->fill(Tensor::of(host, {4}), 0), InternalError);
  EXPECT_THROW(
      backend->upload(Tensor(buffer.data(), DType::kFloat32, {4}), Tensor(buffer.data(), DType::kFloat32, {4})),
      InternalError);
}

}  // namespace
}  // namespace carillon::testing
