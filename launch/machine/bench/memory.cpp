// Memory bandwidth, the cost of an op that has nothing to compute, and a device's copy engines.
#include <algorithm>

#include "launch/machine/bench/bench.h"

namespace carillon {
namespace {

// Three streams of 64 MiB exceed the caches of a rank's cores. A device has larger caches (H100: 50 MB) and too much
// parallelism for such short streams, so it also gets longer ones, as time and memory allow.
constexpr int64_t kStreamBytes = int64_t{64} << 20;
constexpr int64_t kDeviceStreams[] = {int64_t{1} << 20, kStreamBytes, int64_t{1} << 30};
constexpr int64_t kCopies[] = {4096, int64_t{1} << 20, int64_t{64} << 20, int64_t{256} << 20};
constexpr int kEmptyOps = 200;  // a clock read costs as much as an op

void bench_streams(Backend& backend, Communicator& world, double seconds, BenchResult& result) {
  std::vector<int64_t> sizes = {kStreamBytes};
  if (!backend.unified()) {
    sizes.assign(std::begin(kDeviceStreams), std::end(kDeviceStreams));
    const int64_t room = room_on_device(backend, world);
    while (sizes.size() > 1 && 3 * sizes.back() > room) sizes.pop_back();
  }
  std::vector<double> costs(sizes.begin(), sizes.end());
  measure_in_order(world, seconds, costs, [&](size_t i, double share) {
    const int64_t count = sizes[i] / 4;
    Arena arena(backend.allocate(3 * static_cast<size_t>(sizes[i])));
    const auto make = [&](double value) {
      const Tensor x = arena.allocate("bench", DType::kFloat32, {count});
      backend.fill(x, value);
      return x;
    };
    const Tensor a = make(1), b = make(2), y = make(0);
    const Timing timing = time_alone(backend, world, share, [&] { backend.sum(y, a, b); });
    // Two streams are read and one is written. A CPU also reads y before it overwrites it; this is not counted, because
    // other ops do not count it either.
    const double rate = 3.0 * static_cast<double>(sizes[i]) / timing.seconds;
    result.profile.memory_bytes_per_second = rate;  // the longest stream's
    result.rows.push_back({"memory", fmt::format("y = a + b, {} MiB each", sizes[i] >> 20),
                           fmt::format("{:.2f} GB/s", rate * 1e-9), timing,
                           share_of(rate, result.profile.peak_memory_bytes_per_second)});
    return timing.seconds;
  });
}

}  // namespace

int64_t room_on_device(Backend& backend, Communicator& world) { return world.min(backend.memory().free / 10 * 8); }

std::optional<double> share_of(double rate, double peak) {
  if (peak <= 0) return std::nullopt;
  return rate / peak;
}

void bench_memory(Backend& backend, Communicator& world, double seconds, BenchResult& result) {
  bench_streams(backend, world, seconds * 0.8, result);
  // Even a norm of one row wakes all threads, like every op on a step's tensors.
  Arena arena(backend.allocate(4096));
  const Tensor x = arena.allocate("bench", DType::kFloat32, {1, 8}),
               y = arena.allocate("bench", DType::kFloat32, {1, 8}),
               weight = arena.allocate("bench", DType::kFloat32, {8}),
               rstd = arena.allocate("bench", DType::kFloat32, {1});
  backend.fill(x, 1);
  backend.fill(weight, 1);
  Timing timing = time_alone(backend, world, seconds * 0.2, [&] {
    for (int i = 0; i < kEmptyOps; ++i) backend.rmsnorm_forward(y, rstd, x, weight, 1e-6);
  });
  timing.seconds /= kEmptyOps;
  result.profile.op_seconds = timing.seconds;
  result.rows.push_back(
      {"empty op", "a norm of one row", fmt::format("{:.2f} µs", timing.seconds * 1e6), timing, std::nullopt});
}

void bench_copies(Backend& backend, Communicator& world, double seconds, BenchResult& result) {
  if (backend.unified()) return;
  // All ranks of a node copy at once, as with train.offload: they share the host's memory and perhaps a switch.
  enum class Way { kToDevice, kToHost, kBoth };
  std::vector<int64_t> sizes(std::begin(kCopies), std::end(kCopies));
  const int64_t room = room_on_device(backend, world);
  while (sizes.size() > 1 && 2 * sizes.back() > room) sizes.pop_back();
  // Small copies are dominated by latency; without it, the estimate for large ones would be far too long.
  std::vector<double> costs;
  for (const int64_t bytes : sizes) costs.push_back(static_cast<double>(bytes + (int64_t{256} << 10)));
  MachineProfile& profile = result.profile;
  measure_in_order(world, seconds, costs, [&](size_t i, double share) {
    const int64_t bytes = sizes[i];
    const Buffer device = backend.allocate(2 * static_cast<size_t>(bytes)),
                 host = backend.allocate_host(2 * static_cast<size_t>(bytes));
    const auto half = [&](const Buffer& buffer, int64_t which) {
      return Tensor(static_cast<char*>(buffer.data()) + which * bytes, DType::kUInt8, {bytes});
    };
    double longest = 0;
    for (const Way way : {Way::kToDevice, Way::kToHost, Way::kBoth}) {
      const Timing timing = time_alone(backend, world, share / 3, [&] {
        std::unique_ptr<Backend::Copy> up, down;
        if (way != Way::kToHost) up = backend.start_upload(half(device, 0), half(host, 0));
        if (way != Way::kToDevice) down = backend.start_download(half(host, 1), half(device, 1));
        if (up) up->wait();
        if (down) down->wait();
      });
      const double rate = static_cast<double>(bytes) / timing.seconds;
      const char* text = way == Way::kToDevice ? "host to device"
                         : way == Way::kToHost ? "device to host"
                                               : "both ways at once";
      if (way == Way::kToDevice) profile.to_device_bytes_per_second = rate;
      if (way == Way::kToHost) profile.to_host_bytes_per_second = rate;
      if (way == Way::kBoth) {
        profile.host.bytes_per_second = rate;
        if (i == 0) profile.host.latency_seconds = timing.seconds;
      }
      const std::string size =
          bytes < (int64_t{1} << 20) ? fmt::format("{} KiB", bytes >> 10) : fmt::format("{} MiB", bytes >> 20);
      const std::string figure =
          i == 0 ? fmt::format("{:.2f} µs", timing.seconds * 1e6) : fmt::format("{:.2f} GB/s", rate * 1e-9);
      result.rows.push_back({text, size + (way == Way::kBoth ? " each" : ""), figure, timing, std::nullopt});
      longest = std::max(longest, timing.seconds);
    }
    return longest;
  });
}

}  // namespace carillon
