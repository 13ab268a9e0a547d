#include "executor.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "nccl_task.h"
#include "product.h"

namespace carillon_emulation {
namespace {

// In the adversarial order, work waits until the host or another rank's device needs it, but at most this many seconds:
// the host may be waiting for another process that needs this one's work in a way that is not visible here.
constexpr double kLongestDelay = 0.2;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class T>
T at_start(const std::vector<unsigned char>& bytes) {
  T value;
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof(T));
  return value;
}

void copy_rows(const CopyCommand& copy) {
  if (copy.height == 1 || (copy.to_pitch == copy.width && copy.from_pitch == copy.width)) {
    std::memmove(copy.to, copy.from, copy.width * copy.height);
    return;
  }
  for (std::size_t row = 0; row < copy.height; ++row)
    std::memmove(static_cast<char*>(copy.to) + row * copy.to_pitch,
                 static_cast<const char*>(copy.from) + row * copy.from_pitch, copy.width);
}

}  // namespace

Executor::Executor(SharedState& shared, const SharedRegion& device_memory, const Options& options)
    : shared_(shared), options_(options), memory_(device_memory), random_(options.seed * 0x9E3779B97F4A7C15u + 1) {}

void Executor::run(const std::function<bool()>& stop) {
  while (true) {
    const std::uint32_t bell = shared_.doorbell.load();
    bool worked = read_commands();
    worked |= progress_tasks();
    if (const int stream = choose(); stream >= 0) {
      perform(stream);
      worked = true;
    }
    if (worked) continue;
    if (stop()) return;
    const bool tasks =
        std::any_of(active_.begin(), active_.end(), [&](int s) { return queues_[s].front().task != nullptr; });
    if (tasks)
      usleep(20);  // the peer is another process, whose progress wakes no futex here
    else
      sleep_on(shared_.doorbell, bell, active_.empty() ? 1.0 : 0.002);
  }
}

bool Executor::read_commands() {
  bool any = false;
  while (shared_.read.load() < shared_.written.load()) {
    const std::uint64_t begin = shared_.read.load();
    const auto copy_out = [&](std::uint64_t from, void* to, std::size_t bytes) {
      const std::size_t at = from % kQueueBytes, first = std::min(bytes, kQueueBytes - at);
      std::memcpy(to, shared_.queue + at, first);
      std::memcpy(static_cast<unsigned char*>(to) + first, shared_.queue, bytes - first);
    };
    Command command;
    copy_out(begin, &command.header, sizeof(CommandHeader));
    command.payload.resize(command.header.payload);
    copy_out(begin + sizeof(CommandHeader), command.payload.data(), command.payload.size());
    shared_.read.store(begin + command.header.bytes);
    any = true;
    if (command.header.kind >= CommandKind::kMap) {
      do_request(command);
      continue;
    }
    Queue& queue = queues_[command.header.stream];
    if (queue.empty()) active_.push_back(command.header.stream);
    queue.push_back(std::move(command));
    last_command_ = now();
  }
  return any;
}

void Executor::do_request(const Command& command) {
  int result = 0;
  switch (command.header.kind) {
    case CommandKind::kMap:
      memory_.map(at_start<MapCommand>(command.payload));
      break;
    case CommandKind::kUnmap:
      memory_.unmap(at_start<MapCommand>(command.payload));
      break;
    case CommandKind::kAttach:
      result = attach(at_start<AttachCommand>(command.payload));
      break;
    case CommandKind::kDetach:
      detach(at_start<AttachCommand>(command.payload).handle);
      break;
    default:
      break;
  }
  shared_.request_result.store(result);
  shared_.requests_done.store(command.header.number);
  wake_all(shared_.progress);
}

bool Executor::eligible(int stream) {
  Command& command = queues_[stream].front();
  if (command.task) return false;  // already running
  const StreamState& mine = shared_.streams[stream];
  // The legacy default stream (CUDA Runtime API, "Stream synchronization behavior"): its work waits for all earlier
  // work on streams of the device without cudaStreamNonBlocking, and later work on those waits for it.
  if (mine.legacy_order.load())
    for (const int other : active_) {
      const StreamState& its = shared_.streams[other];
      if (other == stream || !its.legacy_order.load() || its.device.load() != mine.device.load()) continue;
      if (!mine.default_stream.load() && !its.default_stream.load()) continue;
      if (queues_[other].front().header.number < command.header.number) return false;
    }
  if (command.header.kind == CommandKind::kWait) {
    const auto wait = at_start<WaitCommand>(command.payload);
    return shared_.streams[wait.stream].completed.load() >= wait.number;
  }
  if (command.header.kind == CommandKind::kExchange) return may_start(at_start<ExchangeCommand>(command.payload));
  return true;
}

bool Executor::somebody_waits() const {
  return std::any_of(active_.begin(), active_.end(),
                     [&](int s) { return shared_.streams[s].demanded.load() > shared_.streams[s].completed.load(); });
}

int Executor::choose() {
  if (active_.empty()) return -1;
  if (options_.adversarial) {
    const std::uint32_t demands = shared_.demands.load();
    const bool queried = demands != demands_seen_;
    const bool late = now() - last_command_ > kLongestDelay;
    if (!queried && !late && !somebody_waits() && !peers_wait()) return -1;
    if (queried) ++demands_seen_;
    if (options_.seed == 1 && !late && !queried)
      if (const int needed = choose_needed(); needed >= 0) return needed;
  }
  std::vector<int> due;
  for (const int stream : active_)
    if (eligible(stream)) due.push_back(stream);
  if (due.empty()) return -1;
  if (options_.adversarial && options_.seed == 0) return *std::max_element(due.begin(), due.end());
  if (options_.adversarial && options_.seed > 1) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return due[random_ % due.size()];
  }
  return *std::min_element(due.begin(), due.end(), [&](int a, int b) {
    return queues_[a].front().header.number < queues_[b].front().header.number;
  });
}

int Executor::choose_needed() {
  for (const int waited : active_) {
    int stream = waited;
    if (shared_.streams[stream].demanded.load() <= shared_.streams[stream].completed.load()) continue;
    // Follow the waits for events from stream to stream to a command that can run.
    for (int steps = 0; steps < kMostStreams && !queues_[stream].empty(); ++steps) {
      if (eligible(stream)) return stream;
      const Command& command = queues_[stream].front();
      if (command.header.kind != CommandKind::kWait) break;
      stream = at_start<WaitCommand>(command.payload).stream;
    }
  }
  return -1;
}

void Executor::perform(int stream) {
  Command& command = queues_[stream].front();
  const unsigned char* payload = command.payload.data();
  switch (command.header.kind) {
    case CommandKind::kLaunch: {
      const auto launch = at_start<LaunchCommand>(command.payload);
      run_grid({launch.grid, launch.block, launch.shared_bytes, launch.kernel, launch.invoke,
                payload + sizeof(LaunchCommand)},
               {options_.descending, options_.copies_early}, kernel_counters_);
      shared_.counters.warp_operations = kernel_counters_.warp_operations;
      shared_.counters.matrix_products = kernel_counters_.matrix_products;
      shared_.counters.ldmatrix_phases = kernel_counters_.ldmatrix_phases;
      shared_.counters.ldmatrix_conflicts = kernel_counters_.ldmatrix_conflicts;
      break;
    }
    case CommandKind::kHostTask:
      at_start<HostTaskCommand>(command.payload).task(payload + sizeof(HostTaskCommand));
      break;
    case CommandKind::kCopy:
      copy_rows(at_start<CopyCommand>(command.payload));
      break;
    case CommandKind::kFill: {
      const auto fill = at_start<FillCommand>(command.payload);
      std::memset(fill.pointer, fill.value, fill.bytes);
      break;
    }
    case CommandKind::kRecord:
      shared_.event_nanoseconds[at_start<RecordCommand>(command.payload).event].store(
          static_cast<std::uint64_t>(now() * 1e9) + product_delays());
      break;
    case CommandKind::kExchange:
      command.task = start_exchange(at_start<ExchangeCommand>(command.payload),
                                    reinterpret_cast<const ExchangeOperation*>(payload + sizeof(ExchangeCommand)));
      if (!command.task->progress()) return;
      break;
    default:
      break;
  }
  finish(stream);
}

void Executor::finish(int stream) {
  Queue& queue = queues_[stream];
  const std::uint64_t number = queue.front().header.number;
  queue.pop_front();
  if (queue.empty()) active_.erase(std::find(active_.begin(), active_.end(), stream));
  shared_.streams[stream].completed.store(number);
  wake_all(shared_.progress);
}

bool Executor::progress_tasks() {
  bool any = false;
  const std::vector<int> active = active_;
  for (const int stream : active) {
    if (!queues_[stream].front().task || !queues_[stream].front().task->progress()) continue;
    finish(stream);
    any = true;
  }
  return any;
}

void Executor::fail(cudaError_t error, const char* message) {
  std::snprintf(shared_.message, sizeof(shared_.message), "%s", message);
  shared_.error.store(error);
  wake_all(shared_.progress);
  if (options_.own_process) _exit(1);
  while (true) pause();
}

}  // namespace carillon_emulation
