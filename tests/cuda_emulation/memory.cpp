// cudaMalloc and its kin, and what is asked about memory.
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "host_state.h"

using namespace carillon_emulation;

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  std::lock_guard lock(state->mutex);
  AddressRange& memory = state->device_memory[current_device()];
  if (memory.used_bytes() + bytes > (state->options.memory_mib - state->options.context_mib) << 20)
    return report(cudaErrorMemoryAllocation);
  const Allocation made = memory.allocate(bytes);
  if (!made.pointer) return report(cudaErrorMemoryAllocation);
  ++state->allocations;
  state->peak_bytes = std::max<std::uint64_t>(state->peak_bytes, state->used_bytes());
  const MapCommand command{made.pages, made.page_bytes, made.pointer, made.bytes};
  *pointer = made.pointer;
  return request(*state, CommandKind::kMap, &command, sizeof(command));
}

cudaError_t cudaFree(void* pointer) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (!pointer) return cudaSuccess;
  const int device = state->device_of(pointer);
  // What still runs on the device may use it: cudaFree waits (CUDA Programming Guide, "Implicit Synchronization").
  if (device >= 0)
    if (error = wait_for_device(*state, device); error != cudaSuccess) return error;
  std::lock_guard lock(state->mutex);
  const Allocation freed = device >= 0 ? state->device_memory[device].release(pointer) : Allocation{};
  if (!freed.pointer) return report(cudaErrorInvalidValue, "cudaFree of %p, where no allocation starts", pointer);
  const MapCommand command{freed.pages, freed.page_bytes, freed.pointer, freed.bytes};
  return request(*state, CommandKind::kUnmap, &command, sizeof(command));
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  std::lock_guard lock(state->mutex);
  *pointer = state->pinned_memory.allocate(bytes).pointer;
  if (!*pointer) return report(cudaErrorMemoryAllocation);
  std::memset(*pointer, 0xFF, bytes);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) { return cudaMallocHost(pointer, bytes); }

cudaError_t cudaFreeHost(void* pointer) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (!pointer) return cudaSuccess;
  if (error = wait_for_device(*state, -1); error != cudaSuccess) return error;
  std::lock_guard lock(state->mutex);
  const Allocation freed = state->pinned_memory.release(pointer);
  if (!freed.pointer) return report(cudaErrorInvalidValue, "cudaFreeHost of %p, where no allocation starts", pointer);
  // Given back to the system; whoever reads it afterwards finds NaN no more, but nothing of use either.
  fallocate(state->pinned_region.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            freed.pages - state->pinned_region.base, static_cast<off_t>(freed.page_bytes));
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  *total_bytes = state->options.memory_mib << 20;
  *free_bytes = *total_bytes - (state->options.context_mib << 20) - state->device_memory[current_device()].used_bytes();
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  void* address = const_cast<void*>(pointer);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, address};
  if (state->allocation_of(pointer))
    *attributes = {cudaMemoryTypeDevice, state->device_of(pointer), address, nullptr};
  else if (state->pinned_memory.find(pointer))
    *attributes = {cudaMemoryTypeHost, current_device(), address, address};
  return cudaSuccess;
}

}  // extern "C"
