// Links between ranks: a ring in which every rank sends to the next while it receives from the previous one, as keys
// and values do in ring attention; the collectives of the other axes; and each pair of ranks alone.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "launch/machine/bench/bench.h"
#include "launch/session/ranks.h"
#include "parallel/transport/thread_communicator.h"

namespace carillon {
namespace {

// Small messages show the latency, large ones the bandwidth. The largest counts, because it passes through memory. A
// message that stays in the caches is several times as fast, but in a run the caches are used by computation between
// the messages. Devices' links need larger ones still.
constexpr int64_t kBytes[] = {8, 1024, int64_t{64} << 10, int64_t{1} << 20, int64_t{32} << 20, int64_t{256} << 20};
constexpr int64_t kMostOnCpu = int64_t{32} << 20;
constexpr int64_t kPairBytes[] = {8, int64_t{32} << 20};
// An empty message takes about as long as one of this many bytes; used to estimate the time of longer messages.
constexpr int64_t kLatencyBytes = int64_t{64} << 10;
constexpr size_t kColumns = 5;  // of the table of pairs

enum class Operation { kShift, kAllReduce, kAllGather };
const char* name_of(Operation operation) {
  return operation == Operation::kShift ? "shift" : operation == Operation::kAllReduce ? "all_reduce" : "all_gather";
}

// A group whose ranks measure, with its name in the profile and in messages.
struct Group {
  Communicator& ranks;
  std::string name, words;  // "node", "within a node"
};

std::string readable(int64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  return bytes < (int64_t{1} << 20) ? fmt::format("{} KiB", bytes >> 10) : fmt::format("{} MiB", bytes >> 20);
}

// Two tensors of `bytes` in the backend's memory, written once: pages never written are cheap to read.
struct Messages {
  Messages(Backend& backend, int64_t bytes) : memory(backend.allocate(2 * static_cast<size_t>(bytes))) {
    const Tensor both(memory.data(), DType::kUInt8, {2, bytes});
    send = both.rows(0, 1), receive = both.rows(1, 2);
    if (const int64_t numbers = 2 * bytes / 4; numbers > 0)
      backend.fill(Tensor(memory.data(), DType::kFloat32, {numbers}), 1);
  }
  Buffer memory;
  Tensor send, receive;
};

Timing time_operation(Backend& backend, Operation operation, Communicator& group, Communicator& world, int64_t bytes,
                      double seconds) {
  const int size = group.size();
  const Messages messages(backend, bytes);
  const int next = (group.rank() + 1) % size, previous = (group.rank() + size - 1) % size;
  void *first = messages.send.raw(), *second = messages.receive.raw();
  const Tensor numbers(first, DType::kFloat32, {bytes / 4});
  if (operation == Operation::kAllReduce) backend.fill(numbers, 0);  // stays finite when summed repeatedly
  return time_together(backend, world, seconds, [&] {
    switch (operation) {
      case Operation::kShift:
        group.start_exchange(messages.send, next, messages.receive, previous)->wait();
        return;
      case Operation::kAllReduce:
        return group.all_reduce(numbers, Reduction::kSum);
      case Operation::kAllGather:
        return group.all_gather(Tensor(second, DType::kUInt8, {bytes}), Tensor(first, DType::kUInt8, {bytes / size}));
    }
  });
}

// Measures one operation for all sizes that time and memory allow, in all groups of a kind at once. The ranks of
// `world` agree on the number of repetitions.
MessageTimes measure(Backend& backend, Operation operation, const Group& group, Communicator& world, double seconds,
                     std::vector<BenchRow>& rows) {
  std::vector<int64_t> sizes(std::begin(kBytes), std::end(kBytes));
  const int64_t most = backend.unified() ? kMostOnCpu : room_on_device(backend, world) / 2;
  while (sizes.size() > 1 && sizes.back() > most) sizes.pop_back();
  MessageTimes result{name_of(operation), group.name, group.ranks.size(), {}, {}};
  const std::string what = operation == Operation::kShift       ? group.words
                           : operation == Operation::kAllReduce ? "all-reduce " + group.words
                                                                : "all-gather " + group.words;
  const double share = seconds / static_cast<double>(sizes.size());
  double rate = 0;  // of the previous size
  for (const int64_t size : sizes) {
    // The largest size counts most. It is left out only on a device, where it is longer, if it alone would exceed the
    // time.
    if (!backend.unified() && rate > 0 && static_cast<double>(size + kLatencyBytes) / rate > seconds) break;
    const int64_t ranks = group.ranks.size();  // the gathered tensor has equal shares
    const int64_t bytes = operation == Operation::kAllGather ? std::max<int64_t>(size / ranks, 1) * ranks : size;
    const Timing timing = time_operation(backend, operation, group.ranks, world, bytes, share);
    rate = static_cast<double>(size + kLatencyBytes) / timing.seconds;
    result.seconds.emplace_back(bytes, timing.seconds);
    const std::string figure = size < (int64_t{1} << 20)
                                   ? fmt::format("{:.2f} µs", timing.seconds * 1e6)
                                   : fmt::format("{:.2f} GB/s", static_cast<double>(bytes) / timing.seconds * 1e-9);
    const std::string text = readable(size) + (operation == Operation::kShift       ? " to the next rank"
                                               : operation == Operation::kAllReduce ? " float32"
                                                                                    : " altogether");
    rows.push_back({what, text, figure, timing, std::nullopt});
  }
  result.fit = fit_line(result.seconds);
  return result;
}

// The link that `plan` uses: the least time of small messages, and the bandwidth of the largest.
Link link_of(const MessageTimes& shift) {
  Link link;
  link.latency_seconds = shift.seconds.front().second;
  for (const auto& [bytes, seconds] : shift.seconds)
    if (bytes < kLatencyBytes) link.latency_seconds = std::min(link.latency_seconds, seconds);
  link.bytes_per_second = static_cast<double>(shift.seconds.back().first) / shift.seconds.back().second;
  return link;
}

Link measure_group(Backend& backend, const Group& group, Communicator& world, double seconds, BenchResult& result) {
  const MessageTimes shift = measure(backend, Operation::kShift, group, world, seconds / 2, result.rows);
  result.profile.messages.push_back(shift);
  for (const Operation operation : {Operation::kAllReduce, Operation::kAllGather})
    result.profile.messages.push_back(measure(backend, operation, group, world, seconds / 4, result.rows));
  return link_of(shift);
}

// Ranks a and b of `group` send to each other, in both directions at once; the others wait.
Link measure_pair(Backend& backend, Communicator& group, int a, int b, double seconds) {
  const bool takes_part = group.rank() == a || group.rank() == b;
  const int peer = !takes_part ? -1 : group.rank() == a ? b : a;
  Link link;
  for (const int64_t bytes : kPairBytes) {
    const Messages messages(backend, takes_part ? bytes : 1);
    const Timing timing = time_together(backend, group, seconds / std::size(kPairBytes), [&] {
      if (takes_part) group.start_exchange(messages.send, peer, messages.receive, peer)->wait();
    });
    if (bytes == kPairBytes[0]) link.latency_seconds = timing.seconds;
    link.bytes_per_second = static_cast<double>(bytes) / timing.seconds;
  }
  return link;
}

// Measures every pair of a node in turn, on all nodes at once, and the first ranks of the first two nodes.
void measure_pairs(Backend& backend, Communicator& world, Communicator& node, Communicator& across,
                   const NodeMap& nodes, double seconds, BenchResult& result) {
  const auto most = static_cast<int64_t>(world.max(static_cast<int64_t>(nodes.local_ranks())));
  const int64_t pairs = most * (most - 1) / 2 + 1;
  const double share = seconds / static_cast<double>(pairs);
  std::vector<int64_t> members(static_cast<size_t>(nodes.local_ranks()));
  int64_t own = world.rank();
  node.all_gather(Tensor::of(members, {nodes.local_ranks()}), Tensor(&own, DType::kInt64, {1}));
  // Results of the first rank of each node, in a table with room for the largest node's: from, to, whether between
  // nodes, rate, latency.
  std::vector<double> found(static_cast<size_t>(kColumns * pairs)),
      all(found.size() * static_cast<size_t>(world.size()));
  auto next = found.begin();
  const auto keep = [&](int64_t from, int64_t to, bool between, const Link& link) {
    for (const double value : {static_cast<double>(from), static_cast<double>(to), between ? 1.0 : 0.0,
                               link.bytes_per_second, link.latency_seconds})
      *next++ = value;
  };
  for (int a = 0; a < nodes.local_ranks(); ++a)
    for (int b = a + 1; b < nodes.local_ranks(); ++b) {
      const Link link = measure_pair(backend, node, a, b, share);
      if (nodes.local_rank() == 0) keep(members[static_cast<size_t>(a)], members[static_cast<size_t>(b)], false, link);
    }
  world.barrier();
  std::vector<int64_t> firsts(static_cast<size_t>(across.size()));
  across.all_gather(Tensor::of(firsts, {across.size()}), Tensor(&own, DType::kInt64, {1}));
  if (nodes.nodes() > 1 && nodes.local_rank() == 0) {
    const Link link = measure_pair(backend, across, 0, 1, share);
    if (nodes.node() == 0) keep(firsts[0], firsts[1], true, link);
  }
  const auto width = static_cast<int64_t>(found.size());
  world.all_gather(Tensor(all.data(), DType::kFloat64, {world.size(), width}),
                   Tensor(found.data(), DType::kFloat64, {1, width}));
  for (size_t i = 0; i < all.size(); i += kColumns) {
    const double* row = &all[i];
    if (row[3] <= 0) continue;  // unused row
    const PairLink pair{static_cast<int>(row[0]), static_cast<int>(row[1]), row[2] != 0, {row[3], row[4]}};
    result.profile.pairs.push_back(pair);
    result.rows.push_back({pair.between_nodes ? "pair of nodes" : "pair of a node",
                           fmt::format("ranks {} and {}, {:.2f} µs", pair.from, pair.to, row[4] * 1e6),
                           fmt::format("{:.2f} GB/s", row[3] * 1e-9), Timing{}, std::nullopt});
  }
}

}  // namespace

Link fit_line(const std::vector<std::pair<int64_t, double>>& seconds) {
  double ww = 0, wb = 0, bb = 0, w = 0, b = 0;
  for (const auto& [bytes, time] : seconds) {
    const double one = 1 / time, scaled = static_cast<double>(bytes) / time;
    ww += one * one, wb += one * scaled, bb += scaled * scaled, w += one, b += scaled;
  }
  const double determinant = ww * bb - wb * wb;
  const double latency = (w * bb - b * wb) / determinant, slope = (b * ww - w * wb) / determinant;
  if (std::isfinite(latency) && std::isfinite(slope) && latency > 0 && slope > 0) return {1 / slope, latency};
  return {static_cast<double>(seconds.back().first) / seconds.back().second, seconds.front().second};
}

void bench_links(Backend& backend, Communicator& world, const NodeMap& nodes, double seconds, BenchResult& result) {
  if (world.size() == 1 && !backend.unified()) {
    result.left_out.emplace_back("links between devices: mpirun -n 2 and more, one rank per device, measures them");
    return;
  }
  if (world.size() == 1) {
    // A single rank has no neighbour, so two threads are measured instead. Their bandwidth is at most MPI's within a
    // node; they wake each other through the system, so their latency is many times MPI's.
    std::mutex lock;
    run_ranks(2, [&](std::unique_ptr<Communicator> pair) {
      std::vector<BenchRow> rows;
      const Group threads{*pair, "threads", "between threads"};
      const MessageTimes shift = measure(backend, Operation::kShift, threads, *pair, seconds, rows);
      const std::lock_guard guard(lock);
      if (pair->rank() != 0) return;
      result.profile.within_node = link_of(shift);
      result.profile.messages.push_back(shift);
      result.rows.insert(result.rows.end(), rows.begin(), rows.end());
    });
    result.left_out.emplace_back(
        "links between ranks, two threads stood in for them: mpirun -n 2 and more measures them");
    return;
  }
  const bool within = world.min(static_cast<int64_t>(nodes.local_ranks())) > 1, between = nodes.nodes() > 1;
  const double share = seconds / (within && between ? 4 : 2);
  const auto node = carry_tensors(backend, world.split(nodes.node(), nodes.local_rank(), "node"));
  if (within)
    result.profile.within_node = measure_group(backend, {*node, "node", "within a node"}, world, share, result);
  // Groups ranks with the same local rank on their nodes: all network adapters of a node work at once. A rank without a
  // partner sends to itself.
  const auto across = carry_tensors(backend, world.split(nodes.local_rank(), nodes.node(), "across"));
  if (between)
    result.profile.between_nodes = measure_group(backend, {*across, "across", "between nodes"}, world, share, result);
  // With one rank per node only the network can be measured; it is the slower of the two links.
  if (!within) result.profile.within_node = result.profile.between_nodes;
  if (within && between) {  // the path of gradients
    const auto everybody = carry_tensors(backend, world.split(0, world.rank(), "all ranks"));
    for (const Operation operation : {Operation::kAllReduce, Operation::kAllGather})
      result.profile.messages.push_back(
          measure(backend, operation, {*everybody, "world", "of all ranks"}, world, share / 2, result.rows));
  }
  measure_pairs(backend, world, *node, *across, nodes, share, result);
}

}  // namespace carillon
