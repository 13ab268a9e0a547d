#include "launch/machine/bench/bench.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace carillon {
namespace {

// Shares of the total time. Attention's long cases take longest and cannot be extrapolated from anything else.
constexpr double kProducts = 0.38, kAttention = 0.40, kMemory = 0.04, kCopies = 0.02, kLinks = 0.08, kDisk = 0.08;

// Memory of the node, or what a container or job may use of it.
int64_t host_memory_bytes() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  if (int64_t limit = 0; std::ifstream("/sys/fs/cgroup/memory.max") >> limit && limit > 0)  // "max": no number
    bytes = std::min(bytes, limit);
  return bytes;
}

}  // namespace

BenchResult run_bench(Backend& backend, Communicator& world, const NodeMap& nodes, const BenchOptions& options,
                      int64_t library_bytes, const Progress& progress) {
  BenchResult result;
  MachineProfile& profile = result.profile;
  profile.library_bytes = library_bytes;
  profile.library_ranks = world.size();
  const DeviceDescription device = backend.describe();
  profile.name = "this";
  profile.device = device.name;
  profile.processor = device.processor;
  profile.instruction_set = device.instruction_set;
  profile.threads = static_cast<int>(world.max(static_cast<int64_t>(device.threads)));
  // As many ranks as have cores of their own, or as were started if that is more.
  const auto cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  profile.ranks_per_node =
      static_cast<int>(world.max(static_cast<int64_t>(std::max(cores / profile.threads, nodes.local_ranks()))));
  profile.host_memory_bytes = world.min(host_memory_bytes());
  profile.memory_bytes = profile.host_memory_bytes / profile.ranks_per_node;
  if (!backend.unified()) {
    profile.ranks_per_node =
        static_cast<int>(world.max(static_cast<int64_t>(std::max(device.devices, nodes.local_ranks()))));
    profile.memory_bytes = world.min(backend.memory().total);
    profile.peak_flops_per_second = device.peak.flops_per_second;
    profile.peak_memory_bytes_per_second = device.peak.memory_bytes_per_second;
    profile.peak_source = device.peak.source;
  }

  const auto part = [&](const std::string& what, double share) {
    progress(fmt::format("measuring {}, about {:.1f} s", what, share * options.seconds));
    return share * options.seconds;
  };
  // The disk comes first, so that a folder that cannot be written is reported at once.
  bench_disk(world, nodes, options.folder, part("the disk of " + options.folder, kDisk), result);
  bench_memory(backend, world, part("memory", kMemory), result);
  if (!backend.unified()) bench_copies(backend, world, part("copies to and from the device", kCopies), result);
  bench_links(backend, world, nodes, part("links", kLinks), result);
  const auto types = static_cast<double>(options.dtypes.size());
  for (const DType dtype : options.dtypes)
    bench_products(backend, world, dtype, part(fmt::format("products in {}", name_of(dtype)), kProducts / types),
                   result);
  const int64_t longest = options.longest.value_or(backend.unified() ? kLongest : kLongestOnDevice);
  for (const DType dtype : options.dtypes)
    bench_attention(backend, world, dtype, longest,
                    part(fmt::format("attention in {}", name_of(dtype)), kAttention / types), result);
  if (!backend.unified())
    for (auto& [dtype, rates] : profile.attention)
      for (AttentionRate& rate : rates) rate.engine = dtype == DType::kBFloat16 ? device.attention_engine : "native";
  // More shapes and types have loaded code since; a run with that many holds as much.
  if (!backend.unified())
    profile.library_bytes = std::max(profile.library_bytes, world.max(memory_used_by_others(backend.memory())));
  return result;
}

}  // namespace carillon
