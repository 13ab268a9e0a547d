#include "launch/train/replica_check.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string>

#include "data/checkpoint/tensor_hash.h"
#include "parallel/injected_fault.h"
#include "runtime/backend.h"

namespace carillon {
namespace {

constexpr int64_t kStagedBytes = int64_t{64} << 20;

uint64_t hash_of(const NamedShard& shard, std::vector<char>& buffer) {
  const auto width = static_cast<int64_t>(size_of(shard.data.dtype()));
  if (shard.device == nullptr || shard.rectangle.empty())
    return hash_rectangle(shard.name, shard.rectangle, shard.data.raw(), width);
  // Downloads a few rows at a time, so that the host need not hold the tensor.
  const int64_t rows = shard.rectangle.extent[0], row = shard.rectangle.count() / rows;
  const int64_t step = std::max<int64_t>(1, kStagedBytes / (row * width));
  const Tensor flat = shard.data.reshape({rows, row});
  uint64_t hash = 0;
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t end = std::min(rows, begin + step);
    buffer.resize(std::max(buffer.size(), static_cast<size_t>((end - begin) * row * width)));
    const Tensor host(buffer.data(), shard.data.dtype(), {end - begin, row});
    shard.device->download(host, flat.rows(begin, end));
    Rectangle part = shard.rectangle;
    part.offset[0] += begin;
    part.extent[0] = end - begin;
    hash += hash_rectangle(shard.name, part, host.raw(), width);
  }
  return hash;
}

// Ranks with equal numbers hold the same part of a tensor.
int64_t number_of(const Rectangle& rectangle) {
  uint64_t number = 0;
  for (const std::vector<int64_t>* part : {&rectangle.offset, &rectangle.extent})
    for (const int64_t value : *part)
      number = (number ^ static_cast<uint64_t>(value)) * 0x9E3779B97F4A7C15 + (number >> 29);
  return static_cast<int64_t>(number >> 1);
}

// Returns the ranks of `group` (numbered as in the world) whose value differs from the majority; if two values tie,
// those with the later one.
std::vector<int64_t> odd_ones(Communicator& group, int64_t world_rank, int64_t value) {
  std::vector<int64_t> all(static_cast<size_t>(2 * group.size()));
  int64_t mine[] = {world_rank, value};
  group.all_gather(Tensor::of(all, {group.size(), 2}), Tensor(mine, DType::kInt64, {1, 2}));
  std::map<int64_t, int> count;
  for (size_t r = 0; r < all.size(); r += 2) ++count[all[r + 1]];
  int64_t usual = all[1];
  for (size_t r = 0; r < all.size(); r += 2)
    if (count[all[r + 1]] > count[usual]) usual = all[r + 1];
  std::vector<int64_t> odd;
  for (size_t r = 0; r < all.size(); r += 2)
    if (all[r + 1] != usual) odd.push_back(all[r]);
  return odd;
}

// Describes a difference between replicas within the group; the same text on each of its ranks, empty if there is none.
// Collective over the group.
std::string difference(Communicator& group, int64_t world_rank, const std::vector<NamedShard>& shards,
                       const std::vector<int64_t>& numbers, const std::vector<int64_t>& hashes) {
  if (group.size() == 1 || shards.empty()) return "";
  const size_t n = shards.size();
  std::vector<int64_t> ends(4 * n);
  for (size_t i = 0; i < n; ++i) {
    ends[4 * i] = numbers[i];
    ends[4 * i + 1] = -numbers[i];
    ends[4 * i + 2] = hashes[i];
    ends[4 * i + 3] = -hashes[i];
  }
  group.all_reduce(Tensor::of(ends, {static_cast<int64_t>(4 * n)}), Reduction::kMax);
  size_t wrong = n, count = 0;
  for (size_t i = n; i-- > 0;) {
    if (ends[4 * i] != -ends[4 * i + 1] || ends[4 * i + 2] == -ends[4 * i + 3]) continue;
    wrong = i;
    ++count;
  }
  if (wrong == n) return "";
  const std::vector<int64_t> odd = odd_ones(group, world_rank, hashes[wrong]);
  return fmt::format("{} is not the same on all ranks of group {}: rank {} {} another one than the rest{}",
                     shards[wrong].name, group.name(), fmt::join(odd, ", "), odd.size() == 1 ? "has" : "have",
                     count == 1 ? "" : fmt::format(" (and so with {} more tensors)", count - 1));
}

// For tests: flips one bit of the last rank's copy of the first replicated weight.
void flip_a_bit(const ProcessGrid& grid, const std::vector<NamedShard>& shards) {
  if (!injected(InjectedFault::kReplicaBitFlipped) || grid.world->rank() != grid.world->size() - 1) return;
  for (const NamedShard& shard : shards) {
    if (shard.rectangle.extent != shard.rectangle.global_shape || shard.device != nullptr) continue;
    static_cast<char*>(shard.data.raw())[0] ^= 1;
    return;
  }
}

}  // namespace

void require_equal_replicas(ProcessGrid& grid, const std::vector<NamedShard>& shards) {
  if (grid.world->size() == 1 || injected(InjectedFault::kReplicasNotCompared)) return;
  flip_a_bit(grid, shards);
  std::vector<int64_t> numbers, hashes;
  std::vector<char> buffer;
  for (const NamedShard& shard : shards) {
    numbers.push_back(number_of(shard.rectangle));
    hashes.push_back(static_cast<int64_t>(hash_of(shard, buffer) >> 1));
  }
  std::string found;
  for (Communicator* group : {grid.dp_cp.get(), grid.tp.get(), grid.kv_replicas.get()})
    if (const std::string text = difference(*group, grid.world->rank(), shards, numbers, hashes); found.empty())
      found = text;
  agree(*grid.world, [&] {
    if (!found.empty())
      throw InternalError(found +
                          ", before the checkpoint, look for a machine that computes wrongly and continue from the "
                          "previous checkpoint");
  });
}

}  // namespace carillon
