// The host side of a kernel launch: checks limits as the runtime does, and searches the arguments for host pointers.
#include "emulation/launch.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "host_state.h"
#include "runtime/cuda/ops/tensor_core.h"

namespace carillon_emulation {
namespace {

constexpr int kSharedWithoutAsking = 48 * 1024;

// Finds a host pointer among a kernel's arguments: an aligned word that is the address of a mapped page outside device
// memory and pinned memory (which kernels may read). Two adjacent small integers do not form such an address.
const void* host_pointer_in(const HostState& state, const void* arguments, std::size_t bytes) {
  for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
    std::uintptr_t word;
    std::memcpy(&word, static_cast<const char*>(arguments) + at, 8);
    if (word >> 32 == 0 || word >> 47 != 0) continue;
#if defined(__SANITIZE_ADDRESS__)
    if (word < 0x10007fff8000) continue;  // AddressSanitizer's shadow memory: mapped, but never a pointer
#endif
    const void* address = reinterpret_cast<const void*>(word);
    if (state.device_of(address) >= 0 || state.pinned_memory.contains(address)) continue;
    unsigned char resident;
    void* page = reinterpret_cast<void*>(word & ~std::uintptr_t{kPageBytes - 1});
    if (mincore(page, 1, &resident) == 0) return address;
  }
  return nullptr;
}

bool valid_shape(dim3 grid, dim3 block) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 &&
         threads > 0 && threads <= 1024 && block.z <= 64;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(), Invoke invoke, const void* arguments,
                   std::size_t bytes) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  const dim3 g = config.gridDim, b = config.blockDim;
  if (!valid_shape(g, b))
    return report(cudaErrorInvalidConfiguration, "launch of (%u,%u,%u) blocks of (%u,%u,%u) threads", g.x, g.y, g.z,
                  b.x, b.y, b.z);
  if (bytes > 4096) return report(cudaErrorInvalidValue, "%zu bytes of kernel arguments; 4096 are allowed", bytes);
  std::lock_guard lock(state->mutex);
  const auto limit = state->shared_limits.find(reinterpret_cast<const void*>(kernel));
  const int allowed = std::max(kSharedWithoutAsking, limit == state->shared_limits.end() ? 0 : limit->second);
  if (config.dynamicSmemBytes > static_cast<std::size_t>(allowed))
    return report(cudaErrorInvalidValue, "%zu bytes of dynamic shared memory; %d allowed by cudaFuncSetAttribute",
                  config.dynamicSmemBytes, allowed);
  const CUstream_st* stream = stream_of(*state, config.stream);
  if (!stream) return report(cudaErrorInvalidResourceHandle, "launch on what is no stream");
  if (stream->device != current_device())
    return report(cudaErrorInvalidResourceHandle, "launch on a stream of device %d while device %d is set",
                  stream->device, current_device());
  if (const void* pointer = host_pointer_in(*state, arguments, bytes))
    return report(cudaErrorIllegalAddress, "a kernel's arguments hold the host pointer %p", pointer);
  ++state->launches;
  const LaunchCommand command{g, b, config.dynamicSmemBytes, kernel, invoke};
  submit(*state, *stream, CommandKind::kLaunch, &command, sizeof(command), arguments, bytes);
  return cudaSuccess;
}

cudaError_t set_function_attribute(const void* function, cudaFuncAttribute attribute, int value) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      value > static_cast<int>(kEmulatedSharedBytes))
    return report(cudaErrorInvalidValue, "cudaFuncSetAttribute(%d, %d)", attribute, value);
  std::lock_guard lock(state->mutex);
  state->shared_limits[function] = value;
  return cudaSuccess;
}

cudaError_t get_function_attributes(cudaFuncAttributes* attributes, const void* function) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  const auto limit = state->shared_limits.find(function);
  attributes->maxDynamicSharedSizeBytes = limit == state->shared_limits.end() ? kSharedWithoutAsking : limit->second;
  return cudaSuccess;
}

}  // namespace carillon_emulation
