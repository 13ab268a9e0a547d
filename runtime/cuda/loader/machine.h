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
  std::optional<int64_t> free_bytes;  // nothing where no context was taken, or none could be
  std::string place;                  // on the bus, as nvidia-smi names it
  DevicePeak peak;
};

// How device `from` reaches the memory of device `to`, as the CUDA runtime tells.
struct CudaLink {
  int from = 0, to = 0;
  // "NVLink": directly, with atomic operations, which PCIe has none of. "PCIe": directly, without. "host": not
  // directly; copies pass through host memory.
  std::string kind;
};

struct CudaMachine {
  std::vector<CudaDevice> devices;
  std::vector<CudaLink> links;  // of every pair once
};

// What libcarillon_cuda.so exports as "carillon_inspect_cuda". `take`: takes a context, some 500 MB, on each device,
// without which CUDA does not tell how much memory is free.
using InspectCuda = void(CudaMachine*, bool take);

}  // namespace carillon
