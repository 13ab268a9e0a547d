#include "runtime/cuda/loader/device_peak.h"

#include <fmt/format.h>

#include <string_view>

#include "runtime/check.h"

namespace carillon {
namespace {

// Peak rates for dense products: bfloat16 with float32 accumulation; float32 on the CUDA cores.
struct KnownDevice {
  std::string_view part_of_name;
  int multiprocessors;
  double bfloat16, float32;  // TFLOP/s
  double memory;             // GB/s
};

// From NVIDIA's data sheets and architecture white papers, written down from memory: check before relying on them.
// The first match counts, so longer names come first.
constexpr KnownDevice kKnown[] = {
    {"A100-SXM4-40GB", 108, 312, 19.5, 1555},
    {"A100-PCIE-40GB", 108, 312, 19.5, 1555},
    {"A100 80GB PCIe", 108, 312, 19.5, 1935},
    {"A100-SXM4-80GB", 108, 312, 19.5, 2039},
    {"H100 PCIe", 114, 756, 51, 2000},
    {"H100 NVL", 132, 835, 60, 3900},
    {"H100 80GB HBM3", 132, 989.4, 67, 3350},
    {"H200 NVL", 132, 835, 60, 4800},
    {"GH200", 132, 989.4, 67, 4000},
    {"H200", 132, 989.4, 67, 4800},
    {"GB200", 148, 2500, 80, 8000},
    {"B200", 148, 2250, 80, 8000},
    {"L40S", 142, 362, 91.6, 864},
    {"L4", 58, 121, 30.3, 300},
    {"A40", 84, 149.7, 37.4, 696},
    {"RTX 4090", 128, 165.2, 82.6, 1008},
    {"RTX 3090", 82, 71, 35.6, 936},
};

// FLOP of one multiprocessor per cycle; 0: unknown.
struct PerCycle {
  double bfloat16 = 0, float32 = 0;
};

// From NVIDIA's architecture white papers: tensor cores per multiprocessor times the rate of each, and 64 or 128
// float32 cores with 2 FLOP each. GeForce devices accumulate bfloat16 products in float32 at half the rate.
PerCycle per_cycle(const CudaFigures& device) {
  const bool half_rate = device.name.find("GeForce") != std::string::npos;
  switch (device.major) {
    case 8:
      if (device.minor == 0) return {2048, 128};  // GA100
      return {half_rate ? 512.0 : 1024.0, 256};   // GA10x, AD10x
    case 9:
      return {4096, 256};  // GH100
    case 10:
      return {8192, 256};  // GB100
    case 12:
      return {half_rate ? 512.0 : 1024.0, 256};  // GB20x
    default:
      return {};
  }
}

DevicePeak peak_of(const KnownDevice& known) {
  constexpr double kTera = 1e12, kGiga = 1e9;
  DevicePeak peak;
  peak.flops_per_second = {{DType::kBFloat16, known.bfloat16 * kTera}, {DType::kFloat32, known.float32 * kTera}};
  peak.memory_bytes_per_second = known.memory * kGiga;
  peak.source = fmt::format("data sheet of {}", known.part_of_name);
  return peak;
}

}  // namespace

DevicePeak data_sheet_peak(std::string_view name) {
  for (const KnownDevice& known : kKnown)
    if (known.part_of_name == name) return peak_of(known);
  throw InternalError(fmt::format("no data sheet's figures of a device called {}", name));
}

DevicePeak device_peak(const CudaFigures& device) {
  for (const KnownDevice& known : kKnown) {
    if (device.name.find(known.part_of_name) == std::string::npos || device.multiprocessors != known.multiprocessors)
      continue;
    return peak_of(known);
  }
  DevicePeak peak;
  const PerCycle rate = per_cycle(device);
  const double cycles = device.multiprocessors * device.clock;
  if (rate.bfloat16 > 0 && cycles > 0)
    peak.flops_per_second = {{DType::kBFloat16, cycles * rate.bfloat16}, {DType::kFloat32, cycles * rate.float32}};
  peak.memory_bytes_per_second = 2 * device.memory_clock * device.memory_bus_bits / 8;
  if (!peak.flops_per_second.empty())
    peak.source = fmt::format("{} multiprocessors at {:.0f} MHz, {:.0f} FLOP per cycle in bfloat16, {:.0f} in float32",
                              device.multiprocessors, device.clock * 1e-6, rate.bfloat16, rate.float32);
  else if (peak.memory_bytes_per_second > 0)
    peak.source = fmt::format("the memory's clock and width; multiprocessors of compute capability {}.{} are not known",
                              device.major, device.minor);
  return peak;
}

}  // namespace carillon
