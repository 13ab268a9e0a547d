// cudaMalloc and related functions, and queries about memory.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
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
  // Running work may still use the memory, so cudaFree waits (CUDA Programming Guide, "Implicit Synchronization").
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

// Accepts only whole pages, unlike the driver: replaces them by pages of the pinned region with the same contents, so
// that the device process sees them.
cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (bytes == 0 || reinterpret_cast<std::uintptr_t>(pointer) % kPageBytes != 0 || bytes % kPageBytes != 0)
    return report(cudaErrorInvalidValue, "cudaHostRegister of %zu bytes at %p: not whole pages", bytes, pointer);
  std::lock_guard lock(state->mutex);
  if (state->as_pinned(pointer) != pointer) return report(cudaErrorHostMemoryAlreadyRegistered);
  const Allocation made = state->pinned_memory.allocate(bytes);
  if (!made.pointer) return report(cudaErrorMemoryAllocation);
  std::memcpy(made.pointer, pointer, bytes);
  if (mmap(pointer, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, state->pinned_region.file,
           made.pointer - state->pinned_region.base) == MAP_FAILED)
    return report(cudaErrorUnknown, "cudaHostRegister: %s", std::strerror(errno));
  state->registered[static_cast<const char*>(pointer)] = {bytes, made.pointer};
  state->registered_bytes += bytes;
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (error = wait_for_device(*state, -1); error != cudaSuccess) return error;
  std::lock_guard lock(state->mutex);
  const auto found = state->registered.find(static_cast<const char*>(pointer));
  if (found == state->registered.end())
    return report(cudaErrorHostMemoryNotRegistered, "cudaHostUnregister of %p, which is not registered", pointer);
  const Registered registered = found->second;
  state->registered.erase(found);
  if (mmap(pointer, registered.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
      MAP_FAILED)
    return report(cudaErrorUnknown, "cudaHostUnregister: %s", std::strerror(errno));
  std::memcpy(pointer, registered.pages, registered.bytes);
  const Allocation freed = state->pinned_memory.release(registered.pages);
  fallocate(state->pinned_region.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            freed.pages - state->pinned_region.base, static_cast<off_t>(freed.page_bytes));
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
  // Returns the pages to the system; a later read finds neither NaN nor useful data.
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
  else if (state->pinned_memory.find(state->as_pinned(pointer)))
    *attributes = {cudaMemoryTypeHost, current_device(), address, address};
  return cudaSuccess;
}

}  // extern "C"
