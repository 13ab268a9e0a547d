// The devices of this machine and the links between them, for `carillon info`. No CUDA in here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/cuda/loader/device_peak.h"

namespace carillon {

struct CudaDevice {
  CudaFigures figures;
  int64_t memory_bytes = 0, l2_bytes = 0;
  std::optional<int64_t> free_bytes;  // nothing if no context was requested or could be created
  std::string place;                  // PCI bus ID as in nvidia-smi
  DevicePeak peak;
};

// How device `from` accesses the memory of device `to`, as the CUDA runtime reports it.
struct CudaLink {
  int from = 0, to = 0;
  // "NVLink": directly, with atomic operations, which PCIe does not have. "PCIe": directly, without them. "host": not
  // directly; copies pass through host memory.
  std::string kind;
};

struct CudaMachine {
  std::vector<CudaDevice> devices;
  std::vector<CudaLink> links;  // one per pair of devices
};

// Exported by libcarillon_cuda.so as "carillon_inspect_cuda". `take`: creates a context (about 500 MB) on each device;
// without one CUDA does not report how much memory is free.
using InspectCuda = void(CudaMachine*, bool take);

}  // namespace carillon
