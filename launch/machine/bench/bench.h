// `carillon bench`: measures this machine with the backend and the communicator that a run uses.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/config/run_config.h"
#include "launch/machine/bench/timing.h"
#include "launch/machine/machine_profile.h"
#include "parallel/transport/node_map.h"

namespace carillon {

constexpr int64_t kLongest = 8192, kLongestOnDevice = 131072;

struct BenchOptions {
  double seconds = 30;  // approximate total; what does not fit is left out, largest first
  std::vector<DType> dtypes = {DType::kFloat32, DType::kBFloat16};
  std::optional<int64_t> longest;  // longest attention; not set: kLongest, on a device kLongestOnDevice
  std::string folder = ".";        // folder on the disk to measure
};

// A line of the printed table.
struct BenchRow {
  std::string what;    // "product float32"
  std::string shape;   // "512 × 576 × 1536"
  std::string figure;  // "123 GFLOP/s"
  Timing timing;
  std::optional<double> share;  // of the device's peak, if that is known
};

struct BenchResult {
  MachineProfile profile;  // called "this"
  std::vector<BenchRow> rows;
  std::vector<std::string> left_out;  // one line each: what was not measured, and why
};

using Progress = std::function<void(const std::string&)>;

// Runs all measurements. Collective, with the same result on every rank. Errors 73 and 74 for options.folder come
// before anything else is measured. `library_bytes` is from bench_libraries, which must run first: later this process
// holds more than its libraries.
BenchResult run_bench(Backend& backend, Communicator& world, const NodeMap& nodes, const BenchOptions& options,
                      int64_t library_bytes, const Progress& progress);
// Returns the memory that the rank with the most holds after a run of two steps and its checkpoint in `folder`. Nearly
// all of it is code and buffers of libraries, which a plan of tensors does not contain. On a device: the device memory
// in addition to the run's own buffers (including other programs' memory, which is not available to a plan either).
// Collective. Errors 73 and 74.
int64_t bench_libraries(Communicator& world, const RuntimeSection& runtime, const std::string& folder);

// Returns the bytes that a case may use on the fullest rank's device. Collective; only if memory is not unified.
int64_t room_on_device(Backend& backend, Communicator& world);
// Returns device memory used by anything other than buffers of the backend.
int64_t memory_used_by_others(const DeviceMemory& memory);
std::optional<double> share_of(double rate, double peak);  // nothing if the peak is not known

// Fits latency + bytes / bandwidth by least squares of relative errors. If the times do not rise with the bytes,
// returns the first pair's time and the last pair's rate. Takes at least one pair of bytes and seconds, smallest first.
Link fit_line(const std::vector<std::pair<int64_t, double>>& seconds);

// The parts of run_bench. Each adds to `result`, whose profile already describes the device, in about `seconds`.
void bench_products(Backend& backend, Communicator& world, DType dtype, double seconds, BenchResult& result);
void bench_attention(Backend& backend, Communicator& world, DType dtype, int64_t longest, double seconds,
                     BenchResult& result);
void bench_memory(Backend& backend, Communicator& world, double seconds, BenchResult& result);  // and empty ops
// Page-locked memory to the device, back, and both at once; does nothing if memory is the host's.
void bench_copies(Backend& backend, Communicator& world, double seconds, BenchResult& result);
// Host memory on a CPU; otherwise device memory, through the transport that a run uses.
void bench_links(Backend& backend, Communicator& world, const NodeMap& nodes, double seconds, BenchResult& result);
void bench_disk(Communicator& world, const NodeMap& nodes, const std::string& folder, double seconds,
                BenchResult& result);

}  // namespace carillon
