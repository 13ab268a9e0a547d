#include "parallel/process_grid.h"

#include <gtest/gtest.h>

#include "parallel/context/ring_topology.h"
#include "parallel/transport/node_map.h"
#include "parallel/transport/thread_communicator.h"

namespace carillon::testing {
namespace {

TEST(ProcessGrid, TensorVariesFastest) {
  run_ranks(12, [](std::unique_ptr<Communicator> world) {
    const int rank = world->rank();
    const ProcessGrid grid = make_process_grid(std::move(world), {2, 3, 2});
    EXPECT_EQ(grid.tp_rank, rank % 2);
    EXPECT_EQ(grid.cp_rank, rank / 2 % 3);
    EXPECT_EQ(grid.dp_rank, rank / 6);
    EXPECT_EQ(grid.tp->size(), 2);
    EXPECT_EQ(grid.cp->size(), 3);
    EXPECT_EQ(grid.dp->size(), 2);
    EXPECT_EQ(grid.dp_cp->size(), 6);
    EXPECT_EQ(grid.dp_cp->rank(), grid.dp_rank * 3 + grid.cp_rank);
    // The members of each axis are the ranks with the same other coordinates.
    EXPECT_EQ(grid.tp->sum(int64_t{rank}), 2 * (rank - rank % 2) + 1);
    EXPECT_EQ(grid.cp->sum(int64_t{rank}), 3 * (grid.dp_rank * 6 + grid.tp_rank) + 2 + 4);
    EXPECT_EQ(grid.dp->sum(int64_t{rank}), 2 * (rank % 6) + 6);
    EXPECT_EQ(grid.kv_replicas->size(), 1);
  });
}

TEST(ProcessGrid, ReplicasAreNeighboursOnTheTensorAxis) {
  run_ranks(8, [](std::unique_ptr<Communicator> world) {
    const int rank = world->rank();
    const ProcessGrid grid = make_process_grid(std::move(world), {1, 2, 4}, 2);
    EXPECT_EQ(grid.kv_replicas->size(), 2);
    EXPECT_EQ(grid.kv_replicas->sum(int64_t{rank}), 2 * (rank - rank % 2) + 1);
  });
}

TEST(ProcessGrid, AWrongProductNamesTheNumbers) {
  run_ranks(3, [](std::unique_ptr<Communicator> world) {
    try {
      make_process_grid(std::move(world), {1, 2, 2});
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find("= 4 ranks, but 3"), std::string::npos) << error.what();
    }
  });
}

TEST(NodeMap, NumbersNodesByTheirFirstRanks) {
  const NodeMap map = number_nodes({7, 7, 3, 7, 3, 9}, 4);
  EXPECT_EQ(map.node_of_rank, (std::vector<int64_t>{0, 0, 1, 0, 1, 2}));
  EXPECT_EQ(map.node(), 1);
  EXPECT_EQ(map.nodes(), 3);
  EXPECT_EQ(map.local_rank(), 1);
  EXPECT_EQ(map.local_ranks(), 2);
  EXPECT_EQ(NodeMap().local_ranks(), 1) << "a rank alone";
  run_ranks(3, [](std::unique_ptr<Communicator> world) {
    const NodeMap threads = map_nodes(*world);
    EXPECT_EQ(threads.nodes(), 1);
    EXPECT_EQ(threads.local_ranks(), 3);
    EXPECT_EQ(threads.local_rank(), world->rank());
  });
}

TEST(RingTopology, TwoLevelsWhereARingLiesEvenlyOnNodes) {
  const auto automatic = [](GridShape shape, const std::vector<int64_t>& nodes) {
    return ring_inner({}, shape, nodes);
  };
  EXPECT_EQ(automatic({1, 4, 1}, {0, 0, 2, 2}), 2);
  EXPECT_EQ(automatic({1, 4, 1}, {0, 0, 0, 0}), 0);
  EXPECT_EQ(automatic({1, 4, 1}, {0, 1, 2, 3}), 0);
  EXPECT_EQ(automatic({1, 4, 1}, {0, 0, 0, 3}), 0) << "not evenly";
  EXPECT_EQ(automatic({1, 4, 1}, {0, 1, 0, 1}), 0) << "not in order";
  EXPECT_EQ(automatic({1, 6, 1}, {0, 0, 2, 2, 0, 0}), 0) << "a node twice";
  EXPECT_EQ(automatic({1, 4, 2}, {0, 0, 0, 0, 4, 4, 4, 4}), 2);
  EXPECT_EQ(automatic({2, 2, 2}, {0, 0, 0, 0, 4, 4, 4, 4}), 0) << "each ring on one node";
  EXPECT_EQ(automatic({2, 4, 1}, {0, 0, 2, 2, 4, 4, 4, 4}), 0) << "rings of two kinds";
  EXPECT_EQ(ring_inner({RingKind::kFlat}, {1, 4, 1}, {0, 0, 2, 2}), 0);
  EXPECT_EQ(ring_inner({RingKind::kTwoLevel, 4}, {1, 8, 1}, std::vector<int64_t>(8)), 4);
  EXPECT_EQ(ring_inner({RingKind::kTwoLevel, 8}, {1, 8, 1}, std::vector<int64_t>(8)), 0) << "one ring";
  EXPECT_THROW((void)ring_inner({RingKind::kTwoLevel, 3}, {1, 8, 1}, std::vector<int64_t>(8)), Error);
  EXPECT_THROW((void)ring_inner({RingKind::kTwoLevel}, {1, 8, 1}, std::vector<int64_t>(8)), Error);
}

}  // namespace
}  // namespace carillon::testing
