// Peak rates of NVIDIA devices: the maker's figures if known, else computed from the number of units. Does not use
// CUDA.
#pragma once

#include <string>
#include <string_view>

#include "runtime/backend.h"

namespace carillon {

// Properties of a device as the CUDA runtime reports them.
struct CudaFigures {
  std::string name;          // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  double clock = 0;         // Hz, maximum
  double memory_clock = 0;  // Hz; two transfers per cycle
  int memory_bus_bits = 0;
};

// Returns the figures of the data sheet for a device with a known name and that device's number of multiprocessors. For
// others (parts of a device, laptop versions, new devices) returns multiprocessors × clock × FLOP per cycle; for an
// unknown architecture the rates are missing.
DevicePeak device_peak(const CudaFigures& device);

// Returns the data sheet's figures for the device with exactly this name in the table ("H100 80GB HBM3"): for planning
// for devices that this machine does not have.
DevicePeak data_sheet_peak(std::string_view name);

}  // namespace carillon
