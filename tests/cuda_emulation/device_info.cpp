// Properties of the emulated devices, and the counters.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "host_state.h"
#include "runtime/cuda/ops/tensor_core.h"

using namespace carillon_emulation;

extern "C" {

// Returns 35 if there is no driver or it is too old, and then does not change *count, like the toolkit.
cudaError_t cudaGetDeviceCount(int* count) {
  const Options& options = options_in_force();
  if (options.driver != "present") return report(cudaErrorInsufficientDriver);
  if (options.devices == 0) return report(cudaErrorNoDevice);
  *count = options.devices;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  const std::string driver = options_in_force().driver;
  *version = driver == "none" ? 0 : driver == "old" ? 11040 : 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return error;
  if (device < 0 || device >= count) return report(cudaErrorInvalidDevice);
  cudaDeviceProp p{};
  std::strcpy(p.name, "Carillon emulated device");
  p.uuid.bytes[0] = static_cast<char>(options_in_force().first_device + device + 1);
  p.totalGlobalMem = options_in_force().memory_mib << 20;
  p.sharedMemPerBlock = 48 * 1024;
  p.sharedMemPerBlockOptin = kEmulatedSharedBytes;
  p.sharedMemPerMultiprocessor = 228 * 1024;
  p.reservedSharedMemPerBlock = 1024;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsPerMultiProcessor = 2048;
  std::copy_n(std::initializer_list<int>{1024, 1024, 64}.begin(), 3, p.maxThreadsDim);
  std::copy_n(std::initializer_list<int>{0x7fffffff, 65535, 65535}.begin(), 3, p.maxGridSize);
  p.major = options_in_force().capability / 10;
  p.minor = options_in_force().capability % 10;
  p.multiProcessorCount = 4;
  p.pciBusID = device + 1;
  p.asyncEngineCount = 2;
  p.unifiedAddressing = p.concurrentKernels = 1;
  p.memoryBusWidth = 512;
  p.l2CacheSize = 1 << 20;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxPitch:
      *value = static_cast<int>(options_in_force().pitch);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrClockRate:
      *value = 1000000;
      break;  // kHz
    case cudaDevAttrMemoryClockRate:
      *value = 1000000;
      break;  // kHz
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = p.memoryBusWidth;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    default:
      return report(cudaErrorInvalidValue, "cudaDeviceGetAttribute(%d) is not emulated", attribute);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (length < 13) return report(cudaErrorInvalidValue);
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", static_cast<unsigned>(device + 1) & 0xff);
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = device != peer;
  return cudaSuccess;
}

// Devices are connected as in a machine with several boards: with atomics (over NVLink) inside groups of four, without
// them (over PCIe) between groups.
cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int from, int to) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) return error;
  if (from < 0 || to < 0 || from >= count || to >= count || from == to) return report(cudaErrorInvalidDevice);
  const bool near = from / 4 == to / 4;
  switch (attribute) {
    case cudaDevP2PAttrPerformanceRank:
      *value = near ? 0 : 1;
      return cudaSuccess;
    case cudaDevP2PAttrAccessSupported:
      *value = 1;
      return cudaSuccess;
    case cudaDevP2PAttrNativeAtomicSupported:
      *value = near;
      return cudaSuccess;
  }
  return report(cudaErrorInvalidValue, "cudaDeviceGetP2PAttribute(%d) is not emulated", attribute);
}

cudaError_t cudaDeviceReset() {
  stop_devices();
  return cudaSuccess;
}

void carillon_emulation_counters(CarillonEmulationCounters* counters) {
  *counters = {};
  HostState* state = started_state();
  if (!state) return;
  std::lock_guard lock(state->mutex);
  *counters = state->shared->counters;
  counters->launches = state->launches;
  counters->products = state->products;
  counters->slow_products = state->slow_products;
  counters->product_searches = state->product_searches;
  counters->allocations = state->allocations;
  counters->allocated_bytes = state->used_bytes();
  counters->peak_bytes = state->peak_bytes;
  counters->host_to_device_bytes = state->to_device;
  counters->device_to_host_bytes = state->to_host;
  counters->device_to_device_bytes = state->on_device;
  counters->fills = state->fills;
  counters->registered_bytes = state->registered_bytes;
  counters->events_recorded = state->records;
  counters->event_waits = state->event_waits;
  counters->host_waits = state->host_waits;
  counters->nccl_operations = state->nccl_operations;
  counters->nccl_communicators = state->nccl_communicators;
  counters->nccl_connections = state->nccl_connections;
  counters->nccl_threads = state->nccl_threads;
  counters->nccl_sent_bytes = state->nccl_bytes;
}

const char* carillon_emulation_message() {
  const HostState* state = started_state();
  return state ? state->shared->message : "";
}

}  // extern "C"
