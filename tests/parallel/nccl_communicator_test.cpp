// NCCL under a device communicator, with ranks as threads with a device each: the cases of every communicator, except
// the order of sums, which NCCL chooses. Needs the CUDA library; ordinary runs use the emulated one.
#include "parallel/transport/nccl_communicator.h"

#include <atomic>
#include <cstdlib>

#include "parallel/injected_fault.h"
#include "parallel/transport/thread_communicator.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/support/device_memory.h"
#include "tests/support/host_tensors.h"

namespace carillon::testing {
namespace {

class NcclCommunicatorTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
    if (!enough_devices(GetParam())) GTEST_SKIP();
  }
  void on_all(void (*run)(Communicator&)) {
    run_ranks(GetParam(), [&](std::unique_ptr<Communicator> world) {
      const auto backend = make_test_backend({.device = "cuda", .device_index = world->rank()});
      auto group = for_device(*backend, std::move(world));
      ASSERT_TRUE(device_transport_of(*group)->describe().starts_with("NCCL")) << "no NCCL, no test";
      run(*through_device(*backend, std::move(group)));
    });
  }
};

TEST_P(NcclCommunicatorTest, ExactSumsInEveryType) { on_all(expect_exact_sums_in_every_type); }
TEST_P(NcclCommunicatorTest, SumsRepeat) { on_all(expect_sums_to_repeat); }
TEST_P(NcclCommunicatorTest, Extremes) { on_all(expect_extremes); }
TEST_P(NcclCommunicatorTest, GatherWithUnevenRows) { on_all(expect_gather_with_uneven_rows); }
TEST_P(NcclCommunicatorTest, Broadcast) { on_all(expect_broadcast); }
TEST_P(NcclCommunicatorTest, ExchangesMatchInOrder) { on_all(expect_exchanges_match_in_order); }
TEST_P(NcclCommunicatorTest, CollectivesUnderWay) { on_all(expect_collectives_under_way); }
TEST_P(NcclCommunicatorTest, Split) { on_all(expect_split); }
TEST_P(NcclCommunicatorTest, Agreement) { on_all(expect_agreement); }
TEST_P(NcclCommunicatorTest, TrafficCounts) { on_all(expect_traffic_counts); }
INSTANTIATE_TEST_SUITE_P(Ranks, NcclCommunicatorTest, ::testing::Values(2, 3, 4));

// A run of one rank has no NCCL communicator, but the library also loads and works on a machine with one device.
TEST(NcclOfOneRank, GivesBackWhatItGets) {
  if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  run_ranks(1, [](std::unique_ptr<Communicator> world) {
    const auto backend = make_test_backend({.device = "cuda"});
    const auto transport = make_test_transport(*backend, *world);
    ASSERT_TRUE(transport->describe().starts_with("NCCL")) << "no NCCL, no test";
    DeviceMemory memory(*backend);
    std::vector<float> sent(1000), got(1000);
    std::iota(sent.begin(), sent.end(), 1.0f);
    const Tensor there = memory.give(Tensor::of(sent, {1000})), back = memory.give(Tensor::of(got, {1000}));
    transport->all_reduce(there, Reduction::kSum);
    transport->broadcast(there, 0);
    transport->start_exchange(there, 0, back, 0)->wait();
    memory.take(Tensor::of(got, {1000}), back);
    EXPECT_EQ(got, sent);
    backend->fill(back, 0);
    transport->all_gather(back, there, {1000});
    memory.take(Tensor::of(got, {1000}), back);
    EXPECT_EQ(got, sent);
    backend->fill(back, 0);
    transport->reduce_scatter(back, there, {1000});
    memory.take(Tensor::of(got, {1000}), back);
    EXPECT_EQ(got, sent);
  });
}

// Returns whether all ranks get the right values: work queued before the start is in the result, work queued after
// wait() sees the result, and work queued in between runs concurrently.
bool started_collectives_are_in_order() {
  std::atomic<bool> right = true;
  run_ranks(2, [&](std::unique_ptr<Communicator> world) {
    const auto backend = make_test_backend({.device = "cuda", .device_index = world->rank()});
    const auto group = for_device(*backend, std::move(world));
    DeviceMemory memory(*backend);
    const double rank = group->rank();
    for (int round = 0; round < 4; ++round) {
      std::vector<double> sum(1000, 1 + rank), own(500, 3 + rank), all(1000), parts(1000, 5 + rank), part(500),
          beside(1000, 7);
      const Tensor sum_there = memory.give(Tensor::of(sum, {1000})), own_there = memory.give(Tensor::of(own, {500})),
                   all_there = memory.give(Tensor::of(all, {1000})),
                   parts_there = memory.give(Tensor::of(parts, {1000})),
                   part_there = memory.give(Tensor::of(part, {500})),
                   beside_there = memory.give(Tensor::of(beside, {1000}));
      for (const Tensor& x : {sum_there, own_there, parts_there}) backend->scale(x, 2);
      auto sums = group->start_all_reduce(sum_there, Reduction::kSum);
      auto gather = group->start_all_gather(all_there, own_there);
      auto scatter = group->start_reduce_scatter(part_there, parts_there);
      backend->scale(beside_there, 3);
      scatter->wait(), sums->wait(), gather->wait();
      for (const Tensor& x : {sum_there, all_there, part_there}) backend->scale(x, 10);
      memory.take(Tensor::of(sum, {1000}), sum_there), memory.take(Tensor::of(all, {1000}), all_there);
      memory.take(Tensor::of(part, {500}), part_there), memory.take(Tensor::of(beside, {1000}), beside_there);
      std::vector<double> gathered(500, 60);
      gathered.resize(1000, 80);
      if (sum != std::vector<double>(1000, 60) || all != gathered || part != std::vector<double>(500, 220) ||
          beside != std::vector<double>(1000, 21))
        right = false;
    }
  });
  return right;
}

class NcclStarted : public ::testing::Test {
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
    if (!enough_devices(2)) GTEST_SKIP();
  }
};

TEST_F(NcclStarted, CollectivesAreInOrderWithTheQueue) { EXPECT_TRUE(started_collectives_are_in_order()); }

// A negative control: without the queue's wait the sums are read or scaled before they are complete.
TEST_F(NcclStarted, AWaitLeftOutIsNoticed) {
  const ScopedFault injected(InjectedFault::kCollectiveNotAwaited);
  EXPECT_FALSE(started_collectives_are_in_order());
}

}  // namespace
}  // namespace carillon::testing
