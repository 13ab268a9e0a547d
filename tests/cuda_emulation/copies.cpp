// cudaMemcpy and cudaMemset. Pageable host memory is staged as the driver does: it is read during the call, and written
// before the call returns. Pinned memory is read and written when the copy runs.
#include <algorithm>
#include <cstring>

#include "host_state.h"

using namespace carillon_emulation;

namespace {

struct Rectangle {
  void* to;
  std::size_t to_pitch;
  const void* from;
  std::size_t from_pitch, width, height;
};

std::size_t span(std::size_t pitch, std::size_t width, std::size_t height) { return (height - 1) * pitch + width; }

bool inside(const Allocation* allocation, const void* pointer, std::size_t bytes) {
  const char* byte = static_cast<const char*>(pointer);
  return allocation && byte >= allocation->pointer && byte + bytes <= allocation->pointer + allocation->bytes;
}

// Checks that the pointer matches the kind of copy, without reading its memory.
cudaError_t check_side(const HostState& state, const char* side, const void* pointer, std::size_t bytes, bool device,
                       bool any) {
  const bool is_device = state.device_of(pointer) >= 0;
  if (!any && is_device != device)
    return report(cudaErrorInvalidValue, "cudaMemcpy %s %p, which is %s memory", side, pointer,
                  is_device ? "device" : "host");
  if (is_device && !inside(state.allocation_of(pointer), pointer, bytes))
    return report(cudaErrorInvalidValue, "cudaMemcpy %s %p: %zu bytes are not inside one allocation", side, pointer,
                  bytes);
  if (state.pinned_memory.contains(pointer) && !inside(state.pinned_memory.find(pointer), pointer, bytes))
    return report(cudaErrorInvalidValue, "cudaMemcpy %s %p: %zu bytes are not inside one pinned allocation", side,
                  pointer, bytes);
  return cudaSuccess;
}

void copy_rows(const Rectangle& r) {
  for (std::size_t row = 0; row < r.height; ++row)
    std::memcpy(static_cast<char*>(r.to) + row * r.to_pitch, static_cast<const char*>(r.from) + row * r.from_pitch,
                r.width);
}

cudaError_t copy(Rectangle r, cudaMemcpyKind kind, cudaStream_t handle, bool wait) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (r.width == 0 || r.height == 0) return cudaSuccess;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return report(cudaErrorInvalidMemcpyDirection);
  if (r.to_pitch < r.width || r.from_pitch < r.width) return report(cudaErrorInvalidPitchValue);
  const bool any = kind == cudaMemcpyDefault;
  std::unique_lock lock(state->mutex);
  r.to = state->as_pinned(r.to), r.from = state->as_pinned(r.from);
  if (error = check_side(*state, "to", r.to, span(r.to_pitch, r.width, r.height),
                         kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice, any);
      error != cudaSuccess)
    return error;
  if (error = check_side(*state, "from", r.from, span(r.from_pitch, r.width, r.height),
                         kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice, any);
      error != cudaSuccess)
    return error;
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle, "cudaMemcpyAsync on what is no stream");

  const bool to_device = state->device_of(r.to) >= 0, from_device = state->device_of(r.from) >= 0;
  const bool to_pageable = !to_device && !state->pinned_memory.contains(r.to);
  const bool from_pageable = !from_device && !state->pinned_memory.contains(r.from);
  const std::size_t bytes = r.width * r.height;
  (to_device ? (from_device ? state->on_device : state->to_device) : state->to_host) += bytes;

  CopyCommand command{r.to, r.from, r.to_pitch, r.from_pitch, r.width, r.height};
  void* staged_from = from_pageable ? allocate_staging(*state, bytes) : nullptr;
  void* staged_to = to_pageable ? allocate_staging(*state, bytes) : nullptr;
  if (from_pageable) {
    if (!staged_from) return report(cudaErrorMemoryAllocation);
    copy_rows({staged_from, r.width, r.from, r.from_pitch, r.width, r.height});
    command.from = staged_from;
    command.from_pitch = r.width;
  }
  if (to_pageable) {
    if (!staged_to) return report(cudaErrorMemoryAllocation);
    command.to = staged_to;
    command.to_pitch = r.width;
  }
  const std::uint64_t number = submit(*state, *stream, CommandKind::kCopy, command);
  const int slot = stream->slot;
  if (number == 0) return report(static_cast<cudaError_t>(state->shared->error.load()));
  if (from_pageable) keep_staging(*state, staged_from, slot, number);
  lock.unlock();
  if (wait || to_pageable) error = wait_for(*state, slot, number);
  if (to_pageable) {
    if (error == cudaSuccess) copy_rows({r.to, r.to_pitch, staged_to, r.width, r.width, r.height});
    lock.lock();
    keep_staging(*state, staged_to, slot, number);
  }
  return error;
}

// Refuses pitches beyond the limit for any number of rows, like the driver.
cudaError_t check_pitches(std::size_t to, std::size_t from) {
  const std::size_t most = options_in_force().pitch;
  if (to <= most && from <= most) return cudaSuccess;
  return report(cudaErrorInvalidPitchValue, "cudaMemcpy2D with rows %zu and %zu bytes apart: at most %zu are taken", to,
                from, most);
}

cudaError_t fill(void* pointer, int value, std::size_t bytes, cudaStream_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (bytes == 0) return cudaSuccess;
  std::lock_guard lock(state->mutex);
  if (!inside(state->allocation_of(pointer), pointer, bytes))
    return report(cudaErrorInvalidValue, "cudaMemset: %zu bytes at %p are not inside one device allocation", bytes,
                  pointer);
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return report(cudaErrorInvalidResourceHandle, "cudaMemsetAsync on what is no stream");
  ++state->fills;
  submit(*state, *stream, CommandKind::kFill, FillCommand{pointer, bytes, value});
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return copy({to, bytes, from, bytes, bytes, 1}, kind, nullptr, kind != cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({to, bytes, from, bytes, bytes, 1}, kind, stream, false);
}
cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                         std::size_t height, cudaMemcpyKind kind) {
  if (const cudaError_t error = check_pitches(to_pitch, from_pitch); error != cudaSuccess) return error;
  return copy({to, to_pitch, from, from_pitch, width, height}, kind, nullptr, kind != cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (const cudaError_t error = check_pitches(to_pitch, from_pitch); error != cudaSuccess) return error;
  return copy({to, to_pitch, from, from_pitch, width, height}, kind, stream, false);
}
cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) { return fill(pointer, value, bytes, nullptr); }
cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  return fill(pointer, value, bytes, stream);
}

}  // extern "C"
