// First stage, to be replaced by the device process: everything runs at once in the calling thread.
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "emulation/launch.h"
#include "fibre.h"
#include "options.h"
#include "runtime/cuda/tensor_core.h"

namespace {

std::mutex mutex;
std::map<const char*, std::pair<std::size_t, bool>> allocations;  // base -> bytes, on device
std::map<const void*, int> shared_limits;
thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
carillon_emulation::KernelCounters counters;

const carillon_emulation::Options& options() {
  static const carillon_emulation::Options read = carillon_emulation::read_options();
  return read;
}
cudaError_t give(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
bool on_device(const void* pointer) {
  std::lock_guard lock(mutex);
  auto after = allocations.upper_bound(static_cast<const char*>(pointer));
  if (after == allocations.begin()) return false;
  --after;
  return pointer < after->first + after->second.first && after->second.second;
}
cudaError_t allocate(void** pointer, std::size_t bytes, bool device) {
  if (cudaError_t error = cudaGetDeviceCount(new int); error != cudaSuccess) return error;
  void* memory = std::aligned_alloc(256, (bytes + 256) / 256 * 256);
  std::memset(memory, 0xFF, bytes);
  std::lock_guard lock(mutex);
  allocations[static_cast<const char*>(memory)] = {bytes, device};
  *pointer = memory;
  return cudaSuccess;
}
cudaError_t release(void* pointer) {
  if (!pointer) return cudaSuccess;
  std::lock_guard lock(mutex);
  if (allocations.erase(static_cast<const char*>(pointer)) == 0) return give(cudaErrorInvalidValue);
  std::free(pointer);
  return cudaSuccess;
}
struct Event {
  std::chrono::steady_clock::time_point at;
};

}  // namespace

namespace carillon_emulation {

cudaError_t set_function_attribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > static_cast<int>(kEmulatedSharedBytes)) return give(cudaErrorInvalidValue);
  std::lock_guard lock(mutex);
  shared_limits[function] = value;
  return cudaSuccess;
}

cudaError_t get_function_attributes(cudaFuncAttributes* attributes, const void* function) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->maxDynamicSharedSizeBytes = shared_limits.contains(function) ? shared_limits[function] : 48 * 1024;
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, void (*kernel)(), Invoke invoke, const void* arguments,
                   std::size_t bytes) {
  const dim3 g = config.gridDim, b = config.blockDim;
  if (bytes > 4096) return give(cudaErrorInvalidValue);
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.y > 65535 || g.z > 65535 || g.x > 0x7fffffffu ||
      std::uint64_t{b.x} * b.y * b.z == 0 || std::uint64_t{b.x} * b.y * b.z > 1024 || b.z > 64)
    return give(cudaErrorInvalidConfiguration);
  {
    std::lock_guard lock(mutex);
    const auto found = shared_limits.find(reinterpret_cast<const void*>(kernel));
    const std::size_t limit = found == shared_limits.end() ? 48 * 1024 : std::max(48 * 1024, found->second);
    if (config.dynamicSmemBytes > limit) return give(cudaErrorInvalidValue);
  }
  static std::mutex one_at_a_time;
  std::lock_guard lock(one_at_a_time);
  run_grid({g, b, config.dynamicSmemBytes, kernel, invoke, arguments}, {options().descending, options().copies_early},
           counters);
  return cudaSuccess;
}

}  // namespace carillon_emulation

extern "C" {
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  if (options().driver != "present") return give(cudaErrorInsufficientDriver);
  if (options().devices == 0) return give(cudaErrorNoDevice);
  *count = options().devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= options().devices) return give(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { return *device = current_device, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total) {
  *free_bytes = *total = options().memory_mib << 20;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) { return allocate(pointer, bytes, true); }
cudaError_t cudaFree(void* pointer) { return release(pointer); }
cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) { return allocate(pointer, bytes, false); }
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) { return allocate(pointer, bytes, false); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer); }
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  if (bytes == 0) return cudaSuccess;
  if (kind != cudaMemcpyDefault &&
      (on_device(to) != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
       on_device(from) != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
    return give(cudaErrorInvalidValue);
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                         std::size_t height, cudaMemcpyKind kind) {
  return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, nullptr);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  for (std::size_t row = 0; row < height; ++row)
    if (cudaError_t error = cudaMemcpyAsync(static_cast<char*>(to) + row * to_pitch,
                                            static_cast<const char*>(from) + row * from_pitch, width, kind, stream);
        error != cudaSuccess)
      return error;
  return cudaSuccess;
}
cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t) {
  std::memset(pointer, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const bool device = on_device(pointer);
  *attributes = {device ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered, device ? current_device : -1,
                 device ? const_cast<void*>(pointer) : nullptr, nullptr};
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new int);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return *least = 0, *greatest = -5, cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete reinterpret_cast<int*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Event*>(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  reinterpret_cast<Event*>(event)->at = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds =
      std::chrono::duration<float, std::milli>(reinterpret_cast<Event*>(end)->at - reinterpret_cast<Event*>(start)->at)
          .count();
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device < 0 || device >= options().devices) return give(cudaErrorInvalidDevice);
  *p = {};
  std::strcpy(p->name, "Carillon emulated device");
  p->totalGlobalMem = options().memory_mib << 20;
  p->sharedMemPerBlock = 48 * 1024;
  p->sharedMemPerBlockOptin = kEmulatedSharedBytes;
  p->sharedMemPerMultiprocessor = 228 * 1024;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->major = 9;
  p->multiProcessorCount = 4;
  p->unifiedAddressing = 1;
  return cudaSuccess;
}
}
