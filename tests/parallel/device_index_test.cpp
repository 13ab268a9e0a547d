#include "parallel/transport/device_index.h"

#include <gtest/gtest.h>

#include <set>

#include "parallel/transport/thread_communicator.h"

namespace carillon::testing {
namespace {

constexpr DeviceId kA{1, 1}, kB{2, 1}, kC{3, 1}, kD{4, 1};
using Visible = std::vector<std::vector<DeviceId>>;

TEST(AssignDevices, RanksThatSeeTheSameTakeThemInTurn) {
  const Visible all(4, {kA, kB, kC, kD});
  EXPECT_EQ(assign_devices(all, false), (std::vector<int>{0, 1, 2, 3}));
}

// Slurm's --gpus-per-task: each rank sees one device, and all ranks call it 0.
TEST(AssignDevices, RanksThatSeeOneEachTakeThat) {
  EXPECT_EQ(assign_devices({{kC}, {kA}, {kD}, {kB}}, false), (std::vector<int>{0, 0, 0, 0}));
}

TEST(AssignDevices, TwoTasksWithTwoDevicesEach) {
  EXPECT_EQ(assign_devices({{kA, kB}, {kA, kB}, {kC, kD}, {kC, kD}}, false), (std::vector<int>{0, 1, 0, 1}));
}

// The first ranks leave devices to those that see fewer.
TEST(AssignDevices, RanksWithAChoiceMakeRoom) {
  const Visible visible{{kA, kB, kC}, {kA, kB}, {kA}};
  const std::vector<int> index = assign_devices(visible, false);
  std::set<DeviceId> taken;
  for (size_t rank = 0; rank < visible.size(); ++rank) {
    ASSERT_LT(index[rank], static_cast<int>(visible[rank].size())) << rank;
    taken.insert(visible[rank][static_cast<size_t>(index[rank])]);
  }
  EXPECT_EQ(taken.size(), 3u);
}

TEST(AssignDevices, ARankTooManyGetsNone) {
  EXPECT_EQ(assign_devices({{kA, kB}, {kA, kB}, {kA, kB}}, false), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(assign_devices({{kA}, {}}, false), (std::vector<int>{0, 0}));
}

TEST(AssignDevices, OrSharesTheOneWithTheFewestRanks) {
  EXPECT_EQ(assign_devices(Visible(5, {kA, kB}), true), (std::vector<int>{0, 1, 0, 1, 0}));
}

// On different nodes the same identity is a different device.
TEST(DeviceIndex, RanksOfAnotherNodeTakeNothing) {
  run_ranks(4, [](std::unique_ptr<Communicator> world) {
    NodeMap nodes{{0, 0, 1, 1}, world->rank()};
    const std::vector<DeviceId> visible{kA, kB};
    EXPECT_EQ(device_index(*world, nodes, visible, false), world->rank() % 2);
    EXPECT_EQ(device_index(*world, nodes, {visible[static_cast<size_t>(1 - world->rank() % 2)]}, false), 0);
    EXPECT_EQ(device_index(*world, nodes, {}, false), world->rank() % 2);
  });
}

}  // namespace
}  // namespace carillon::testing
