// Links between ranks: every rank passes a message to the next of its ring while it receives the previous one's, as the
// keys and values of ring attention travel.
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "launch/bench/bench.h"
#include "launch/ranks.h"
#include "parallel/thread_communicator.h"

namespace carillon {
namespace {

// Small messages show the latency, large ones the bandwidth. The largest counts, for it passes through memory: one that
// stays in the caches travels several times as fast, but keys and values are computed with in between.
constexpr int64_t kSmall[] = {8, 1024};
constexpr int64_t kLarge[] = {int64_t{1} << 20, int64_t{32} << 20};

Timing shift(Backend& backend, Communicator& ring, Communicator& world, int64_t bytes, double seconds) {
  const Buffer memory = backend.allocate(2 * static_cast<size_t>(bytes));
  const Tensor both(memory.data(), DType::kUInt8, {2, bytes}), send = both.rows(0, 1), receive = both.rows(1, 2);
  std::vector<uint8_t> ones(static_cast<size_t>(2 * bytes), 1);  // pages that were never written are cheap to read
  backend.upload(both, Tensor(ones.data(), DType::kUInt8, {2, bytes}));
  const int next = (ring.rank() + 1) % ring.size(), previous = (ring.rank() + ring.size() - 1) % ring.size();
  return time_together(world, seconds, [&] {
    ring.start_exchange(send, next, receive, previous)->wait();
    if (!backend.unified()) backend.synchronize();
  });
}

// All rings of the world at once; `world` is who must agree on the number of repetitions.
Link measure(Backend& backend, Communicator& ring, Communicator& world, double seconds, const std::string& where,
             std::vector<BenchRow>& rows) {
  Link link;
  const double share = seconds / static_cast<double>(std::size(kSmall) + std::size(kLarge));
  for (const int64_t bytes : kSmall) {
    const Timing timing = shift(backend, ring, world, bytes, share);
    link.latency_seconds = link.latency_seconds == 0 ? timing.seconds : std::min(link.latency_seconds, timing.seconds);
    rows.push_back(
        {where, fmt::format("{} B to the next rank", bytes), fmt::format("{:.2f} µs", timing.seconds * 1e6), timing});
  }
  for (const int64_t bytes : kLarge) {
    const Timing timing = shift(backend, ring, world, bytes, share);
    const double rate = static_cast<double>(bytes) / timing.seconds;
    link.bytes_per_second = rate;
    rows.push_back(
        {where, fmt::format("{} MiB to the next rank", bytes >> 20), fmt::format("{:.2f} GB/s", rate * 1e-9), timing});
  }
  return link;
}

}  // namespace

NodePlace find_node(Communicator& world) {
  // Names of nodes, as numbers: the ranks' places follow from who gave the same.
  char name[256] = {};
  (void)::gethostname(name, sizeof name - 1);
  int64_t own = static_cast<int64_t>(std::hash<std::string>{}(name));
  std::vector<int64_t> all(static_cast<size_t>(world.size()));
  world.all_gather(Tensor::of(all, {world.size()}), Tensor(&own, DType::kInt64, {1}));
  NodePlace place;
  std::set<int64_t> before;
  const auto first = std::find(all.begin(), all.end(), own);
  for (auto it = all.begin(); it != first; ++it) before.insert(*it);
  place.node = static_cast<int>(before.size());
  place.nodes = static_cast<int>(std::set<int64_t>(all.begin(), all.end()).size());
  place.local = static_cast<int>(std::count(all.begin(), all.begin() + world.rank(), own));
  place.ranks = static_cast<int>(std::count(all.begin(), all.end(), own));
  return place;
}

void bench_links(Backend& backend, Communicator& world, const NodePlace& place, double seconds, BenchResult& result) {
  if (world.size() == 1 && !backend.unified()) {
    result.left_out.emplace_back("links between devices: mpirun -n 2 and more, one rank a device, measures them");
    return;
  }
  if (world.size() == 1) {
    // No neighbour to measure: two threads stand in. They have at best MPI's bandwidth within a node; they wake each
    // other through the system, so their latency is many times MPI's.
    std::mutex lock;
    run_ranks(2, [&](std::unique_ptr<Communicator> pair) {
      std::vector<BenchRow> rows;
      const Link link = measure(backend, *pair, *pair, seconds, "between threads", rows);
      const std::lock_guard guard(lock);
      if (pair->rank() != 0) return;
      result.profile.within_node = link;
      result.rows.insert(result.rows.end(), rows.begin(), rows.end());
    });
    result.left_out.emplace_back(
        "links between ranks, two threads stood in for them: mpirun -n 2 and more measures them");
    return;
  }
  const bool within = world.min(static_cast<int64_t>(place.ranks)) > 1, between = place.nodes > 1;
  const double share = within && between ? seconds / 2 : seconds;
  const auto node = carry_tensors(backend, world.split(place.node, place.local, "node"));
  if (within) result.profile.within_node = measure(backend, *node, world, share, "within a node", result.rows);
  // Ranks of the same place on their nodes: all adapters of a node work at once. A rank without a partner sends to
  // itself.
  const auto across = carry_tensors(backend, world.split(place.local, place.node, "across"));
  if (between) result.profile.between_nodes = measure(backend, *across, world, share, "between nodes", result.rows);
  // One rank a node: only the network was there to measure, and it is the slower of the two.
  if (!within) result.profile.within_node = result.profile.between_nodes;
}

}  // namespace carillon
