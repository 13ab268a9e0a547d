// `carillon bench`: what this machine reaches, measured with the backend and the communicator a run uses.
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
  double seconds = 30;  // about, altogether; what does not fit is left out, largest first
  std::vector<DType> dtypes = {DType::kFloat32, DType::kBFloat16};
  std::optional<int64_t> longest;  // tokens, of attention; nothing: kLongest, on a device kLongestOnDevice
  std::string folder = ".";        // whose disk is measured
};

// A line of the table for people.
struct BenchRow {
  std::string what;    // "product float32"
  std::string shape;   // "512 × 576 × 1536"
  std::string figure;  // "123 GFLOP/s"
  Timing timing;
  std::optional<double> share;  // of the device's peak, where that is known
};

struct BenchResult {
  MachineProfile profile;  // called "this"
  std::vector<BenchRow> rows;
  std::vector<std::string> left_out;  // one line each: what was not measured, and why
};

using Progress = std::function<void(const std::string&)>;

// Collective; the same result on every rank. Errors 73 and 74 for options.folder, before anything else is measured.
// `library_bytes` from bench_libraries, which must come before: afterwards this process holds more than libraries.
BenchResult run_bench(Backend& backend, Communicator& world, const NodeMap& nodes, const BenchOptions& options,
                      int64_t library_bytes, const Progress& progress);
// What the rank that holds most holds after a run of two steps and its checkpoint in `folder`: nearly all of it code
// and buffers of libraries, which no plan of tensors knows. On a device: of its memory, beside the run's own buffers
// (other programs on it count: they take what a plan cannot have). Collective. Errors 73 and 74.
int64_t bench_libraries(Communicator& world, const RuntimeSection& runtime, const std::string& folder);

// Bytes that a case may take on the fullest rank's device. Collective; only where memory is not unified.
int64_t room_on_device(Backend& backend, Communicator& world);
// Of a device's memory taken by others than its backend, buffers of which are not counted.
int64_t taken_beside(const DeviceMemory& memory);
std::optional<double> share_of(double rate, double peak);  // nothing where the peak is not known

// latency + bytes / bandwidth with the least squares of relative errors; where the times do not rise with the bytes,
// the first's time and the last's rate. At least one pair of bytes and seconds, smallest first.
Link fit_line(const std::vector<std::pair<int64_t, double>>& seconds);

// Its parts: each adds to `result`, whose profile already says what the device is, taking about `seconds`.
void bench_products(Backend& backend, Communicator& world, DType dtype, double seconds, BenchResult& result);
void bench_attention(Backend& backend, Communicator& world, DType dtype, int64_t longest, double seconds,
                     BenchResult& result);
void bench_memory(Backend& backend, Communicator& world, double seconds, BenchResult& result);  // and an empty op
// Page-locked memory to the device, back, and both at once; nothing where memory is the host's.
void bench_copies(Backend& backend, Communicator& world, double seconds, BenchResult& result);
// Of host memory on a CPU, of the device's through the transport that a run uses elsewhere.
void bench_links(Backend& backend, Communicator& world, const NodeMap& nodes, double seconds, BenchResult& result);
void bench_disk(Communicator& world, const NodeMap& nodes, const std::string& folder, double seconds,
                BenchResult& result);

}  // namespace carillon
