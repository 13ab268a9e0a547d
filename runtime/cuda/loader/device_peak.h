// What an NVIDIA device can do at most: its maker's figures where we know them, else its units counted. No CUDA in
// here: numbers go in and come out.
#pragma once

#include <string>
#include <string_view>

#include "runtime/backend.h"

namespace carillon {

// What the CUDA runtime says of a device.
struct CudaFigures {
  std::string name;          // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  double clock = 0;         // Hz, the highest
  double memory_clock = 0;  // Hz; two transfers a cycle
  int memory_bus_bits = 0;
};

// The figures of the data sheet for a device of a known name with as many multiprocessors as that has; for others
// (parts of a device, laptop versions, new ones) multiprocessors × clock × what one does in a cycle; nothing for an
// architecture we do not know.
DevicePeak device_peak(const CudaFigures& device);

// The data sheet's figures for the device of the table that is called exactly so ("H100 80GB HBM3"): for planning on
// devices that are not there.
DevicePeak data_sheet_peak(std::string_view name);

}  // namespace carillon
