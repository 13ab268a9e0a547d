// The host side of streams and events. The device process orders the work (executor.cpp).
#include "host_state.h"

using namespace carillon_emulation;

namespace {

CUevent_st* event_of(HostState& state, cudaEvent_t handle) {
  for (const auto& event : state.events)
    if (event.get() == handle) return handle;
  return nullptr;
}

cudaError_t no_stream() { return report(cudaErrorInvalidResourceHandle, "no such stream"); }
cudaError_t no_event() { return report(cudaErrorInvalidResourceHandle, "no such event"); }

cudaError_t query(HostState& state, int stream, std::uint64_t number) {
  if (is_done(state, stream, number)) return cudaSuccess;
  demand_one(state);
  return cudaErrorNotReady;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  if (flags > cudaStreamNonBlocking) return report(cudaErrorInvalidValue);
  std::lock_guard lock(state->mutex);
  if (state->free_streams.empty()) return report(cudaErrorMemoryAllocation, "more than %d streams", kMostStreams);
  auto made = std::make_unique<CUstream_st>();
  made->slot = state->free_streams.back();
  state->free_streams.pop_back();
  made->device = current_device();
  made->flags = flags;
  StreamState& shared = state->shared->streams[made->slot];
  shared.device = made->device;
  shared.legacy_order = (flags & cudaStreamNonBlocking) == 0;
  *stream = made.get();
  state->streams.push_back(std::move(made));
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

// Queued work still runs. The slot is not reused, so that a later use of the handle is detected.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  CUstream_st* stream = handle ? stream_of(*state, handle) : nullptr;
  if (!stream) return no_stream();
  stream->alive = false;
  if (is_done(*state, stream->slot, state->submitted[stream->slot]))
    state->free_streams.insert(state->free_streams.begin(), stream->slot);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::unique_lock lock(state->mutex);
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return no_stream();
  const int slot = stream->slot, device = stream->device;
  const bool default_stream = stream == &state->default_streams[static_cast<std::size_t>(device)];
  const std::uint64_t number = state->submitted[slot];
  ++state->host_waits;
  lock.unlock();
  // The legacy default stream is done when the streams that synchronise with it are.
  if (default_stream) return wait_for_device(*state, device, true);
  return wait_for(*state, slot, number);
}

cudaError_t cudaDeviceSynchronize() {
  cudaError_t error;
  HostState* state = host_state(error);
  return state ? wait_for_device(*state, current_device()) : error;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return no_stream();
  return query(*state, stream->slot, state->submitted[stream->slot]);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return no_stream();
  const CUevent_st* event = event_of(*state, event_handle);
  if (!event) return no_event();
  if (event->number == 0) return cudaSuccess;  // never recorded: nothing to wait for, as in CUDA
  ++state->event_waits;
  submit(*state, *stream, CommandKind::kWait, WaitCommand{event->stream, event->number});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  if (state->free_events.empty()) return report(cudaErrorMemoryAllocation, "more than %d events", kMostEvents);
  auto made = std::make_unique<CUevent_st>();
  made->slot = state->free_events.back();
  state->free_events.pop_back();
  made->flags = flags;
  *event = made.get();
  state->events.push_back(std::move(made));
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  if (!event_of(*state, handle)) return no_event();
  // A pending record still writes its time into the slot, so this slot is reused last.
  state->free_events.insert(state->free_events.begin(), handle->slot);
  std::erase_if(state->events, [&](const auto& event) { return event.get() == handle; });
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle, cudaStream_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  const CUstream_st* stream = stream_of(*state, handle);
  if (!stream) return no_stream();
  CUevent_st* event = event_of(*state, event_handle);
  if (!event) return no_event();
  ++state->records;
  const std::uint64_t number = submit(*state, *stream, CommandKind::kRecord, RecordCommand{event->slot});
  event->stream = stream->slot;
  event->number = number;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::unique_lock lock(state->mutex);
  const CUevent_st* event = event_of(*state, handle);
  if (!event) return no_event();
  ++state->host_waits;
  const int stream = event->stream;
  const std::uint64_t number = event->number;
  lock.unlock();
  return number == 0 ? cudaSuccess : wait_for(*state, stream, number);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  const CUevent_st* event = event_of(*state, handle);
  if (!event) return no_event();
  return event->number == 0 ? cudaSuccess : query(*state, event->stream, event->number);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return error;
  std::lock_guard lock(state->mutex);
  const CUevent_st *first = event_of(*state, start), *last = event_of(*state, end);
  if (!first || !last || first->number == 0 || last->number == 0 ||
      ((first->flags | last->flags) & cudaEventDisableTiming))
    return report(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime of events not recorded or without times");
  if (!is_done(*state, first->stream, first->number) || !is_done(*state, last->stream, last->number))
    return cudaErrorNotReady;
  const auto& times = state->shared->event_nanoseconds;
  *milliseconds = static_cast<float>(
      static_cast<double>(static_cast<std::int64_t>(times[last->slot].load() - times[first->slot].load())) * 1e-6);
  return cudaSuccess;
}

}  // extern "C"
