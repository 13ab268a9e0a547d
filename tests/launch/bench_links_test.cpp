// What `carillon bench` reports about links: the groups and pairs of ranks, and the line fitted to the times. Threads
// act as the ranks of two nodes. The values themselves are not tested.
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "launch/machine/bench/bench.h"
#include "parallel/transport/thread_communicator.h"

namespace carillon::testing {
namespace {

// The profile measured by `ranks` ranks with `ranks_per_node` on each node. All ranks must return the same one.
MachineProfile measured(int ranks, int ranks_per_node) {
  MachineProfile first;
  std::mutex lock;
  std::vector<std::string> all;
  run_ranks(ranks, [&](std::unique_ptr<Communicator> world) {
    const auto backend = make_backend({.device = "reference"});
    std::vector<int64_t> labels;
    for (int rank = 0; rank < ranks; ++rank) labels.push_back(100 - rank / ranks_per_node);
    const NodeMap nodes = number_nodes(labels, world->rank());
    BenchResult result;
    bench_links(*backend, *world, nodes, 0.02, result);
    const std::lock_guard guard(lock);
    if (world->rank() == 0) first = result.profile;
    all.push_back(machine_profile_json(result.profile));
  });
  for (const std::string& json : all) EXPECT_EQ(json, all[0]) << "the same on every rank";
  return first;
}

std::vector<std::string> groups(const MachineProfile& profile) {
  std::vector<std::string> found;
  for (const MessageTimes& messages : profile.messages) {
    found.push_back(fmt::format("{} {} {}", messages.operation, messages.group, messages.ranks));
    EXPECT_GT(messages.seconds.size(), 0u);
    for (const auto& [bytes, seconds] : messages.seconds) EXPECT_TRUE(bytes > 0 && seconds > 0) << bytes << seconds;
    EXPECT_TRUE(std::isfinite(messages.fit.bytes_per_second) && messages.fit.bytes_per_second > 0);
    EXPECT_TRUE(std::isfinite(messages.fit.latency_seconds) && messages.fit.latency_seconds > 0);
  }
  return found;
}

std::vector<std::string> pairs(const MachineProfile& profile) {
  std::vector<std::string> found;
  for (const PairLink& pair : profile.pairs) {
    found.push_back(fmt::format("{}-{}{}", pair.from, pair.to, pair.between_nodes ? " between" : ""));
    EXPECT_GT(pair.link.bytes_per_second, 0);
    EXPECT_GT(pair.link.latency_seconds, 0);
  }
  return found;
}

using Names = std::vector<std::string>;

TEST(BenchLinks, OnOneNodeEachPairInTurn) {
  const MachineProfile profile = measured(3, 3);
  EXPECT_EQ(groups(profile), (Names{"shift node 3", "all_reduce node 3", "all_gather node 3"}));
  EXPECT_EQ(pairs(profile), (Names{"0-1", "0-2", "1-2"}));
  EXPECT_GT(profile.within_node.bytes_per_second, 0);
  EXPECT_EQ(profile.between_nodes.bytes_per_second, 0);
}

TEST(BenchLinks, OnTwoNodesAlsoBetweenThem) {
  const MachineProfile profile = measured(4, 2);
  EXPECT_EQ(groups(profile),
            (Names{"shift node 2", "all_reduce node 2", "all_gather node 2", "shift across 2", "all_reduce across 2",
                   "all_gather across 2", "all_reduce world 4", "all_gather world 4"}));
  EXPECT_EQ(pairs(profile), (Names{"0-1", "0-2 between", "2-3"}));
  EXPECT_GT(profile.between_nodes.bytes_per_second, 0);
}

TEST(BenchLinks, OneRankOnEachNode) {
  const MachineProfile profile = measured(2, 1);
  EXPECT_EQ(groups(profile), (Names{"shift across 2", "all_reduce across 2", "all_gather across 2"}));
  EXPECT_EQ(pairs(profile), (Names{"0-1 between"}));
  EXPECT_EQ(profile.within_node.bytes_per_second, profile.between_nodes.bytes_per_second);
}

TEST(BenchLinks, TheLineGoesThroughTimesOfALine) {
  const auto time = [](double bytes) { return 20e-6 + bytes / 50e9; };
  std::vector<std::pair<int64_t, double>> seconds;
  for (const int64_t bytes : {8, 65536, 1 << 20, 1 << 25})
    seconds.emplace_back(bytes, time(static_cast<double>(bytes)));
  const Link line = fit_line(seconds);
  EXPECT_NEAR(line.latency_seconds, 20e-6, 1e-12);
  EXPECT_NEAR(line.bytes_per_second, 50e9, 1e3);
  // A single point, or times that fall with the size, give no line but still give figures.
  EXPECT_EQ(fit_line({{8, 1e-6}}).latency_seconds, 1e-6);
  const Link falling = fit_line({{8, 2e-6}, {1000, 1e-6}});
  EXPECT_EQ(falling.latency_seconds, 2e-6);
  EXPECT_NEAR(falling.bytes_per_second, 1e9, 1);
}

}  // namespace
}  // namespace carillon::testing
