#include "runtime/cuda/loader/machine.h"

#include <cuda_runtime.h>

#include <array>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/loader/survey.h"

namespace carillon::cuda {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  CHECK_CUDA(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

bool peer(cudaDeviceP2PAttr which, int from, int to) {
  int value = 0;
  CHECK_CUDA(cudaDeviceGetP2PAttribute(&value, which, from, to));
  return value != 0;
}

// Returns nothing if the device is not accessible or full because other programs use it.
std::optional<int64_t> free_bytes(int device) {
  size_t available = 0, total = 0;
  if (cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&available, &total) == cudaSuccess)
    return static_cast<int64_t>(available);
  cudaGetLastError();
  return std::nullopt;
}

}  // namespace

CudaFigures figures_of(int device) {
  cudaDeviceProp properties{};
  CHECK_CUDA(cudaGetDeviceProperties(&properties, device));
  CudaFigures figures;
  figures.name = properties.name;
  figures.major = properties.major;
  figures.minor = properties.minor;
  figures.multiprocessors = properties.multiProcessorCount;
  // From attributes, in kHz, because CUDA 13 has no clocks among the properties.
  figures.clock = 1e3 * attribute(cudaDevAttrClockRate, device);
  figures.memory_clock = 1e3 * attribute(cudaDevAttrMemoryClockRate, device);
  figures.memory_bus_bits = properties.memoryBusWidth;
  return figures;
}

CudaMachine inspect(bool take) {
  CudaMachine machine;
  int count = 0, before = 0;
  CHECK_CUDA(cudaGetDeviceCount(&count));
  CHECK_CUDA(cudaGetDevice(&before));
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    CHECK_CUDA(cudaGetDeviceProperties(&properties, device));
    CudaDevice found;
    found.figures = figures_of(device);
    found.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
    found.l2_bytes = properties.l2CacheSize;
    std::array<char, 32> place{};
    CHECK_CUDA(cudaDeviceGetPCIBusId(place.data(), place.size(), device));
    found.place = place.data();
    found.peak = device_peak(found.figures);
    if (take) found.free_bytes = free_bytes(device);
    machine.devices.push_back(std::move(found));
    for (int other = 0; other < device; ++other) {
      const bool direct = peer(cudaDevP2PAttrAccessSupported, other, device);
      const bool atomic = direct && peer(cudaDevP2PAttrNativeAtomicSupported, other, device);
      machine.links.push_back({other, device, atomic ? "NVLink" : direct ? "PCIe" : "host"});
    }
  }
  if (take) CHECK_CUDA(cudaSetDevice(before));
  return machine;
}

}  // namespace carillon::cuda

extern "C" __attribute__((visibility("default"))) void carillon_inspect_cuda(carillon::CudaMachine* machine,
                                                                             bool take) {
  *machine = carillon::cuda::inspect(take);
}
