// The host's side of the emulated devices of this process: which memory, streams and events there are, and the calls'
// way to the device process. One mutex guards all of it; waiting happens without it.
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
  int stream = -1;           // where it was recorded last
  std::uint64_t number = 0;  // the record's command; 0 before the first
};

namespace carillon_emulation {

// A copy's bytes on their way, to be given back once the command is done.
struct Staging {
  void* memory;
  int stream;
  std::uint64_t number;
};

// Host memory that was registered: `pages` of the pinned region lie at its addresses too.
struct Registered {
  std::size_t bytes;
  char* pages;
};

struct HostState {
  std::mutex mutex;
  Options options;
  SharedRegion state_region, device_region, pinned_region;
  SharedState* shared = nullptr;
  int owner = 0, child = 0;  // process numbers
  int life_line = -1;        // written by nobody: its end tells the device process that this one is gone
  std::thread executor;      // with process=thread

  std::vector<AddressRange> device_memory;
  AddressRange pinned_memory;
  std::map<const char*, Registered> registered;  // by where it begins
  std::vector<CUstream_st> default_streams;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::vector<std::unique_ptr<CUevent_st>> events;
  std::vector<int> free_streams, free_events;
  std::uint64_t last_number = 0;
  std::vector<std::uint64_t> submitted = std::vector<std::uint64_t>(kMostStreams);  // last number of each stream
  std::map<const void*, int> shared_limits;        // cudaFuncAttributeMaxDynamicSharedMemorySize by kernel
  std::vector<Staging> staging;                    // on their way
  std::multimap<std::size_t, void*> free_staging;  // by bytes: pages that need not be made again
  std::size_t free_staging_bytes = 0;
  std::uint64_t host_waits = 0, allocations = 0, peak_bytes = 0, registered_bytes = 0;
  std::uint64_t launches = 0, products = 0, fills = 0, records = 0, event_waits = 0;
  std::int64_t attention_calls = 0;  // of the stand-in for cuDNN
  std::uint64_t to_device = 0, to_host = 0, on_device = 0, nccl_operations = 0, nccl_threads = 0, product_searches = 0,
                nccl_bytes = 0, nccl_communicators = 0, nccl_connections = 0;

  int device_of(const void* pointer) const;  // -1: no device's
  const Allocation* allocation_of(const void* pointer) const;
  // Where the device process finds registered memory; any other pointer as it is.
  void* as_pinned(const void* pointer) const;
  std::size_t used_bytes() const;
};

// The devices' state, started at the first call; nullptr with `error` set where they cannot be used: no driver, a
// failed device, a process that was forked from one that uses them.
HostState* host_state(cudaError_t& error);
// The same without starting anything: nullptr before the first call that needs a device.
HostState* started_state();
// Ends the device process and forgets everything.
void stop_devices();

const Options& options_in_force();

// Remembers an error for cudaGetLastError and gives it back.
cudaError_t report(cudaError_t error);
// Prints what the caller did wrong, then the same.
cudaError_t report(cudaError_t error, const char* format, ...) __attribute__((format(printf, 2, 3)));

int current_device();

// The stream of a handle (nullptr: the present device's default stream); nullptr if it is none. Under the mutex.
CUstream_st* stream_of(HostState& state, cudaStream_t handle);

// Puts a command at the stream's end and returns its number; 0 when the device has failed. Under the mutex.
std::uint64_t submit(HostState& state, const CUstream_st& stream, CommandKind kind, const void* command,
                     std::size_t command_bytes, const void* more = nullptr, std::size_t more_bytes = 0);
template <class C>
std::uint64_t submit(HostState& state, const CUstream_st& stream, CommandKind kind, const C& command) {
  return submit(state, stream, kind, &command, sizeof(command));
}
// A request outside any stream, done when this returns. Under the mutex.
cudaError_t request(HostState& state, CommandKind kind, const void* command, std::size_t bytes, int* result = nullptr);

// Sleeps until the stream has done the command. Not under the mutex.
cudaError_t wait_for(HostState& state, int stream, std::uint64_t number);
bool is_done(const HostState& state, int stream, std::uint64_t number);
// Waits for everything called so far on the device's streams (-1: every device's), or only on those that take turns
// with its default stream. Not under the mutex.
cudaError_t wait_for_device(HostState& state, int device, bool legacy_only = false);
// Lets the device process do one command more, in the adversarial order.
void demand_one(HostState& state);

// Shared memory for a copy's bytes, until command `number` of the stream is done. Under the mutex.
void* allocate_staging(HostState& state, std::size_t bytes);
void keep_staging(HostState& state, void* memory, int stream, std::uint64_t number);

}  // namespace carillon_emulation
