#include "host_state.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "device_process.h"

namespace carillon_emulation {

void sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t seen, double seconds) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds);
  time.tv_nsec = static_cast<long>((seconds - std::floor(seconds)) * 1e9);
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, seen, &time, nullptr, 0);
}

void wake_all(std::atomic<std::uint32_t>& word) {
  word.fetch_add(1);
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, 0x7fffffff, nullptr, nullptr, 0);
}

namespace {

std::mutex start_mutex;
HostState* the_state = nullptr;
// Kept because handles that a program still holds after cudaDeviceReset point into them.
std::vector<HostState*>* forgotten_states = nullptr;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int device_of_thread = 0;

// Writes the counters, one per line, to FOLDER/PROCESS.json, for tests of programs, which cannot call
// carillon_emulation_counters.
void leave_counters() {
  if (!the_state || the_state->owner != getpid()) return;
  CarillonEmulationCounters c;
  carillon_emulation_counters(&c);
  const std::string path = the_state->options.counters + "/" + std::to_string(getpid()) + ".json";
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (!file) return std::perror(path.c_str());
  const std::pair<const char*, std::uint64_t> numbers[] = {{"launches", c.launches},
                                                           {"products", c.products},
                                                           {"slow_products", c.slow_products},
                                                           {"product_searches", c.product_searches},
                                                           {"allocations", c.allocations},
                                                           {"allocated_bytes", c.allocated_bytes},
                                                           {"peak_bytes", c.peak_bytes},
                                                           {"host_to_device_bytes", c.host_to_device_bytes},
                                                           {"device_to_host_bytes", c.device_to_host_bytes},
                                                           {"device_to_device_bytes", c.device_to_device_bytes},
                                                           {"fills", c.fills},
                                                           {"events_recorded", c.events_recorded},
                                                           {"event_waits", c.event_waits},
                                                           {"host_waits", c.host_waits},
                                                           {"nccl_operations", c.nccl_operations},
                                                           {"nccl_communicators", c.nccl_communicators},
                                                           {"nccl_connections", c.nccl_connections},
                                                           {"nccl_threads", c.nccl_threads},
                                                           {"nccl_sent_bytes", c.nccl_sent_bytes}};
  const char* before = "{";
  for (const auto& [name, number] : numbers) {
    std::fprintf(file, "%s\"%s\": %llu", before, name, static_cast<unsigned long long>(number));
    before = ",\n ";
  }
  std::fputs("}\n", file);
  std::fclose(file);
}

HostState* start() {
  auto* state = new HostState;
  state->options = read_options();
  const int devices = state->options.devices;
  state->state_region = make_region(sizeof(SharedState), PROT_READ | PROT_WRITE);
  state->shared = new (state->state_region.base) SharedState;
  state->device_region = make_region(kDeviceSpan * static_cast<std::size_t>(devices), PROT_NONE);
  state->pinned_region = make_region(kDeviceSpan, PROT_READ | PROT_WRITE);
  state->pinned_memory.reset(state->pinned_region.base, state->pinned_region.span, false);
  state->device_memory.resize(devices);
  state->default_streams.resize(devices);
  for (int d = 0; d < devices; ++d) {
    state->device_memory[d].reset(state->device_region.base + d * kDeviceSpan, kDeviceSpan, true);
    state->default_streams[d].slot = state->default_streams[d].device = d;
    state->shared->streams[d].device = d;
    state->shared->streams[d].default_stream = state->shared->streams[d].legacy_order = true;
  }
  for (int slot = kMostStreams - 1; slot >= devices; --slot) state->free_streams.push_back(slot);
  for (int slot = kMostEvents - 1; slot >= 0; --slot) state->free_events.push_back(slot);
  start_device_process(*state);
  explain_host_faults();
  if (!state->options.counters.empty()) std::atexit(leave_counters);
  return state;
}

}  // namespace

HostState* started_state() { return the_state; }

HostState* host_state(cudaError_t& error) {
  int count = 0;
  if (error = cudaGetDeviceCount(&count); error != cudaSuccess) return nullptr;
  std::lock_guard lock(start_mutex);
  if (!the_state) the_state = start();
  if (the_state->owner != getpid()) {
    error = report(cudaErrorInitializationError, "a forked process cannot use the devices its parent uses");
    return nullptr;
  }
  if (const int failed = the_state->shared->error.load(); failed != 0) {
    error = report(static_cast<cudaError_t>(failed));
    return nullptr;
  }
  return the_state;
}

void stop_devices() {
  std::lock_guard lock(start_mutex);
  last_error = cudaSuccess;
  if (!the_state || the_state->owner != getpid()) return;
  end_device_process(*the_state);
  drop_region(the_state->state_region);
  drop_region(the_state->device_region);
  drop_region(the_state->pinned_region);
  if (!forgotten_states) forgotten_states = new std::vector<HostState*>;
  forgotten_states->push_back(std::exchange(the_state, nullptr));
  device_of_thread = 0;
}

const Options& options_in_force() {
  static const Options at_start = read_options();
  if (the_state) return the_state->options;
  static thread_local Options now;
  now = read_options();
  return now;
}

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

cudaError_t report(cudaError_t error, const char* format, ...) {
  char text[600];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof(text), format, list);
  va_end(list);
  std::fprintf(stderr, "emulated device: %s: %s\n", cudaGetErrorName(error), text);
  return report(error);
}

int current_device() { return device_of_thread; }

int HostState::device_of(const void* pointer) const {
  for (std::size_t d = 0; d < device_memory.size(); ++d)
    if (device_memory[d].contains(pointer)) return static_cast<int>(d);
  return -1;
}

void* HostState::as_pinned(const void* pointer) const {
  const char* byte = static_cast<const char*>(pointer);
  auto after = registered.upper_bound(byte);
  if (after != registered.begin() && byte < (--after)->first + after->second.bytes)
    return after->second.pages + (byte - after->first);
  return const_cast<void*>(pointer);
}

const Allocation* HostState::allocation_of(const void* pointer) const {
  const int device = device_of(pointer);
  return device < 0 ? nullptr : device_memory[device].find(pointer);
}

std::size_t HostState::used_bytes() const {
  std::size_t sum = 0;
  for (const AddressRange& memory : device_memory) sum += memory.used_bytes();
  return sum;
}

CUstream_st* stream_of(HostState& state, cudaStream_t handle) {
  if (!handle || handle == cudaStreamLegacy) return &state.default_streams[device_of_thread];
  for (const auto& stream : state.streams)
    if (stream.get() == handle && stream->alive) return handle;
  return nullptr;
}

namespace {

// Writes a command into the queue, waiting for room. Returns false if the device has failed.
bool write_command(HostState& state, const CommandHeader& header, const void* command, std::size_t command_bytes,
                   const void* more, std::size_t more_bytes) {
  SharedState& shared = *state.shared;
  while (shared.written.load() + header.bytes - shared.read.load() > kQueueBytes) {
    const std::uint32_t seen = shared.progress.load();
    if (shared.error.load() != 0 || device_process_lost(state)) return false;
    wake_all(shared.doorbell);
    sleep_on(shared.progress, seen, 0.001);
  }
  std::uint64_t at = shared.written.load();
  const auto put = [&](const void* from, std::size_t bytes) {
    const std::size_t place = at % kQueueBytes, first = std::min(bytes, kQueueBytes - place);
    std::memcpy(shared.queue + place, from, first);
    std::memcpy(shared.queue, static_cast<const unsigned char*>(from) + first, bytes - first);
    at += bytes;
  };
  put(&header, sizeof(header));
  put(command, command_bytes);
  if (more_bytes > 0) put(more, more_bytes);
  shared.written.store(shared.written.load() + header.bytes);
  wake_all(shared.doorbell);
  return true;
}

CommandHeader make_header(HostState& state, CommandKind kind, std::size_t payload) {
  CommandHeader header{};
  header.payload = payload;
  header.bytes = static_cast<std::uint32_t>((sizeof(CommandHeader) + payload + 15) / 16 * 16);
  header.kind = kind;
  header.number = ++state.last_number;
  return header;
}

}  // namespace

std::uint64_t submit(HostState& state, const CUstream_st& stream, CommandKind kind, const void* command,
                     std::size_t command_bytes, const void* more, std::size_t more_bytes) {
  CommandHeader header = make_header(state, kind, command_bytes + more_bytes);
  header.stream = stream.slot;
  header.device = stream.device;
  if (!write_command(state, header, command, command_bytes, more, more_bytes)) return 0;
  state.submitted[stream.slot] = header.number;
  return header.number;
}

cudaError_t request(HostState& state, CommandKind kind, const void* command, std::size_t bytes, int* result) {
  const CommandHeader header = make_header(state, kind, bytes);
  write_command(state, header, command, bytes, nullptr, 0);
  SharedState& shared = *state.shared;
  while (shared.requests_done.load() < header.number) {
    const std::uint32_t seen = shared.progress.load();
    if (shared.requests_done.load() >= header.number) break;
    if (shared.error.load() != 0 || device_process_lost(state))
      return report(static_cast<cudaError_t>(shared.error.load()));
    sleep_on(shared.progress, seen, 0.05);
  }
  if (result) *result = shared.request_result.load();
  return cudaSuccess;
}

bool is_done(const HostState& state, int stream, std::uint64_t number) {
  return state.shared->streams[stream].completed.load() >= number;
}

cudaError_t wait_for(HostState& state, int stream, std::uint64_t number) {
  SharedState& shared = *state.shared;
  std::uint64_t demanded = shared.streams[stream].demanded.load();
  while (demanded < number && !shared.streams[stream].demanded.compare_exchange_weak(demanded, number)) {
  }
  wake_all(shared.doorbell);
  while (!is_done(state, stream, number)) {
    const std::uint32_t seen = shared.progress.load();
    if (is_done(state, stream, number)) break;
    if (shared.error.load() == 0) {
      std::lock_guard lock(state.mutex);
      device_process_lost(state);
    }
    if (const int failed = shared.error.load(); failed != 0) return report(static_cast<cudaError_t>(failed));
    sleep_on(shared.progress, seen, 0.05);
  }
  return cudaSuccess;
}

cudaError_t wait_for_device(HostState& state, int device, bool legacy_only) {
  std::vector<std::pair<int, std::uint64_t>> waits;
  {
    std::lock_guard lock(state.mutex);
    ++state.host_waits;
    for (int slot = 0; slot < kMostStreams; ++slot) {
      if (legacy_only && !state.shared->streams[slot].legacy_order.load()) continue;
      if ((device < 0 || state.shared->streams[slot].device.load() == device) &&
          !is_done(state, slot, state.submitted[slot]))
        waits.emplace_back(slot, state.submitted[slot]);
    }
  }
  // Demand all of them before waiting for one, so that the adversarial order may execute them in any order.
  for (const auto& [slot, number] : waits) {
    auto& demanded = state.shared->streams[slot].demanded;
    if (demanded.load() < number) demanded.store(number);
  }
  for (const auto& [slot, number] : waits)
    if (const cudaError_t error = wait_for(state, slot, number); error != cudaSuccess) return error;
  return cudaSuccess;
}

void demand_one(HostState& state) {
  state.shared->demands.fetch_add(1);
  wake_all(state.shared->doorbell);
}

void* allocate_staging(HostState& state, std::size_t bytes) {
  // Keep up to this much for reuse: creating a page costs more than filling it.
  constexpr std::size_t kKept = std::size_t{256} << 20;
  std::erase_if(state.staging, [&](const Staging& staging) {
    if (!is_done(state, staging.stream, staging.number)) return false;
    const Allocation* allocation = state.pinned_memory.find(staging.memory);
    if (state.free_staging_bytes + allocation->bytes <= kKept) {
      state.free_staging.emplace(allocation->bytes, staging.memory);
      state.free_staging_bytes += allocation->bytes;
      return true;
    }
    const Allocation freed = state.pinned_memory.release(staging.memory);
    fallocate(state.pinned_region.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              freed.pages - state.pinned_region.base, static_cast<off_t>(freed.page_bytes));
    return true;
  });
  const auto fitting = state.free_staging.lower_bound(bytes);
  if (fitting != state.free_staging.end() && fitting->first <= 2 * bytes + kPageBytes) {
    void* memory = fitting->second;
    state.free_staging_bytes -= fitting->first;
    state.free_staging.erase(fitting);
    return memory;
  }
  return state.pinned_memory.allocate(bytes).pointer;
}

void keep_staging(HostState& state, void* memory, int stream, std::uint64_t number) {
  state.staging.push_back({memory, stream, number});
}

}  // namespace carillon_emulation

extern "C" {

cudaError_t cudaSetDevice(int device) {
  using namespace carillon_emulation;
  cudaError_t error;
  const HostState* state = host_state(error);
  if (!state) return error;
  if (device < 0 || device >= state->options.devices) return report(cudaErrorInvalidDevice);
  device_of_thread = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = carillon_emulation::current_device();
  return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() { return carillon_emulation::last_error; }

// An error that makes a device unusable persists (CUDA Runtime API, "Error Handling").
cudaError_t cudaGetLastError() {
  using namespace carillon_emulation;
  if (the_state && the_state->shared->error.load() != 0)
    return static_cast<cudaError_t>(the_state->shared->error.load());
  return std::exchange(last_error, cudaSuccess);
}

}  // extern "C"
