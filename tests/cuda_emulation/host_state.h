// The host side of this process's emulated devices: their memory, streams and events, and the queue of calls to the
// device process. One mutex guards everything; it is not held while waiting.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "device_memory.h"
#include "emulation/runtime_api.h"
#include "options.h"
#include "shared_state.h"

struct CUstream_st {
  int slot = 0, device = 0;
  unsigned flags = 0;
  bool alive = true;
};

struct CUevent_st {
  int slot = 0;
  unsigned flags = 0;
  int stream = -1;           // of the latest record
  std::uint64_t number = 0;  // command number of the latest record; 0 if never recorded
};

namespace carillon_emulation {

// Staging memory of a copy in flight, released when the command is done.
struct Staging {
  void* memory;
  int stream;
  std::uint64_t number;
};

// Registered host memory: `pages` of the pinned region are mapped at its addresses too.
struct Registered {
  std::size_t bytes;
  char* pages;
};

struct HostState {
  std::mutex mutex;
  Options options;
  SharedRegion state_region, device_region, pinned_region;
  SharedState* shared = nullptr;
  int owner = 0, child = 0;  // process IDs
  int life_line = -1;        // pipe without data; its closing tells the device process that this process has ended
  std::thread executor;      // with process=thread

  std::vector<AddressRange> device_memory;
  AddressRange pinned_memory;
  std::map<const char*, Registered> registered;  // by first address
  std::vector<CUstream_st> default_streams;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::vector<std::unique_ptr<CUevent_st>> events;
  std::vector<int> free_streams, free_events;
  std::uint64_t last_number = 0;
  std::vector<std::uint64_t> submitted = std::vector<std::uint64_t>(kMostStreams);  // last number of each stream
  std::map<const void*, int> shared_limits;        // cudaFuncAttributeMaxDynamicSharedMemorySize by kernel
  std::vector<Staging> staging;                    // in flight
  std::multimap<std::size_t, void*> free_staging;  // by bytes: existing pages for reuse
  std::size_t free_staging_bytes = 0;
  std::uint64_t host_waits = 0, allocations = 0, peak_bytes = 0, registered_bytes = 0;
  std::uint64_t launches = 0, products = 0, slow_products = 0, fills = 0, records = 0, event_waits = 0;
  std::int64_t attention_calls = 0;  // of the substitute for cuDNN
  std::uint64_t to_device = 0, to_host = 0, on_device = 0, nccl_operations = 0, nccl_threads = 0, product_searches = 0,
                nccl_bytes = 0, nccl_communicators = 0, nccl_connections = 0;

  int device_of(const void* pointer) const;  // -1: not device memory
  const Allocation* allocation_of(const void* pointer) const;
  // The address of registered memory in the device process; other pointers are returned unchanged.
  void* as_pinned(const void* pointer) const;
  std::size_t used_bytes() const;
};

// The state of the devices, which the first call starts. Returns nullptr and sets `error` if they cannot be used: no
// driver, a failed device, or a process forked from one that uses them.
HostState* host_state(cudaError_t& error);
// The same without starting the devices: nullptr before the first call that needs one.
HostState* started_state();
// Ends the device process and discards all state.
void stop_devices();

const Options& options_in_force();

// Stores an error for cudaGetLastError and returns it.
cudaError_t report(cudaError_t error);
// The same, after printing what the caller did wrong.
cudaError_t report(cudaError_t error, const char* format, ...) __attribute__((format(printf, 2, 3)));

int current_device();

// The stream of a handle (nullptr: the current device's default stream); nullptr if the handle is invalid. Call with
// the mutex held.
CUstream_st* stream_of(HostState& state, cudaStream_t handle);

// Appends a command to the stream and returns its number; 0 if the device has failed. Call with the mutex held.
std::uint64_t submit(HostState& state, const CUstream_st& stream, CommandKind kind, const void* command,
                     std::size_t command_bytes, const void* more = nullptr, std::size_t more_bytes = 0);
template <class C>
std::uint64_t submit(HostState& state, const CUstream_st& stream, CommandKind kind, const C& command) {
  return submit(state, stream, kind, &command, sizeof(command));
}
// Executes a request outside any stream; it is done when this returns. Call with the mutex held.
cudaError_t request(HostState& state, CommandKind kind, const void* command, std::size_t bytes, int* result = nullptr);

// Sleeps until the stream has done the command. Call without the mutex.
cudaError_t wait_for(HostState& state, int stream, std::uint64_t number);
bool is_done(const HostState& state, int stream, std::uint64_t number);
// Waits for all work queued so far on the device's streams (-1: of all devices), or only on those that synchronise with
// its default stream. Call without the mutex.
cudaError_t wait_for_device(HostState& state, int device, bool legacy_only = false);
// Lets the device process execute one more command in the adversarial order.
void demand_one(HostState& state);

// Shared memory for the bytes of a copy; keep_staging() keeps it until command `number` of the stream is done. Call
// with the mutex held.
void* allocate_staging(HostState& state, std::size_t bytes);
void keep_staging(HostState& state, void* memory, int stream, std::uint64_t number);

}  // namespace carillon_emulation
