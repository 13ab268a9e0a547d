// NCCL under a device communicator, ranks as threads with a device each: the cases of every communicator but for the
// order of sums, which is NCCL's own. Needs the CUDA library: emulated in the ordinary run.
#include "parallel/nccl_communicator.h"

#include <cstdlib>

#include "parallel/thread_communicator.h"
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
TEST_P(NcclCommunicatorTest, Split) { on_all(expect_split); }
TEST_P(NcclCommunicatorTest, Agreement) { on_all(expect_agreement); }
TEST_P(NcclCommunicatorTest, TrafficCounts) { on_all(expect_traffic_counts); }
INSTANTIATE_TEST_SUITE_P(Ranks, NcclCommunicatorTest, ::testing::Values(2, 3, 4));

// A run of one rank has no NCCL communicator; the library itself starts and works on a machine with one device too.
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

}  // namespace
}  // namespace carillon::testing
