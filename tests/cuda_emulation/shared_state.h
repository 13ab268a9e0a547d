// State shared by the host process and its device process: the queue of commands in one direction, progress in the
// other. It is in shared memory mapped before the fork, so it has the same address in both.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "counters.h"
#include "fibre.h"

namespace carillon_emulation {

inline constexpr int kMostStreams = 1024;
inline constexpr int kMostEvents = 1 << 16;
inline constexpr int kMostDevices = 16;
inline constexpr std::size_t kQueueBytes = std::size_t{4} << 20;

// Commands of a stream are executed in order. Every command has a number, which increases over the whole process.
enum class CommandKind : std::uint32_t {
  kLaunch,    // LaunchCommand, then the arguments
  kHostTask,  // HostTaskCommand, then the arguments: work that a library (cuBLASLt) would launch
  kCopy,      // CopyCommand
  kFill,      // FillCommand
  kRecord,    // RecordCommand
  kWait,      // WaitCommand
  kExchange,  // NCCL: nccl_task.h
  // Not on a stream; executed when read, while the host waits for `requests_done`:
  kMap,     // MapCommand: makes memory accessible, filled with NaN
  kUnmap,   // MapCommand: checks memory for overruns and makes it inaccessible
  kAttach,  // nccl_task.h
  kDetach,
};

struct CommandHeader {
  std::uint32_t bytes;  // including this header; a multiple of 16
  CommandKind kind;
  std::int32_t stream;  // slot
  std::int32_t device;
  std::uint64_t number;
  std::uint64_t payload;  // bytes that follow
};

struct LaunchCommand {
  dim3 grid, block;
  std::size_t shared_bytes;
  void (*kernel)();
  Invoke invoke;
};
struct HostTaskCommand {
  void (*task)(const void* arguments);
  std::size_t padding;
};
struct CopyCommand {
  void* to;
  const void* from;
  std::size_t to_pitch, from_pitch, width, height;
};
struct FillCommand {
  void* pointer;
  std::size_t bytes;
  int value;
};
struct RecordCommand {
  int event;
};
struct WaitCommand {
  int stream;
  std::uint64_t number;
};
struct MapCommand {
  void* pages;  // whole pages that contain the requested [pointer, pointer + bytes)
  std::size_t page_bytes;
  void* pointer;
  std::size_t bytes;
};

struct StreamState {
  std::atomic<std::uint64_t> completed;  // number of the last command done
  std::atomic<std::uint64_t> demanded;   // the host waits until this number is done
  std::atomic<bool> legacy_order;        // synchronises with the device's default stream (no cudaStreamNonBlocking)
  std::atomic<bool> default_stream;
  std::atomic<std::int32_t> device;
};

struct SharedState {
  std::atomic<std::uint64_t> written, read;  // bytes of the queue
  std::atomic<std::uint32_t> doorbell;       // futex on which the device process sleeps
  std::atomic<std::uint32_t> progress;       // futex on which the host sleeps
  std::atomic<std::uint64_t> requests_done;  // number of the last kMap, kUnmap, kAttach, kDetach done
  std::atomic<std::int32_t> request_result;  // 0, or its error
  std::atomic<std::uint32_t> demands;        // by cudaStreamQuery, cudaEventQuery: each lets one command run
  std::atomic<std::int32_t> error;           // cudaError_t from which the device does not recover, or 0
  char message[1024];                        // the message printed with it
  std::atomic<std::uint64_t> event_nanoseconds[kMostEvents];
  StreamState streams[kMostStreams];
  CarillonEmulationCounters counters;
  alignas(64) unsigned char queue[kQueueBytes];
};

// Sleeps until `word` differs from `seen`, at most `seconds`.
void sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t seen, double seconds);
void wake_all(std::atomic<std::uint32_t>& word);

}  // namespace carillon_emulation
