// The main loop of the device process: reads commands, keeps a queue per stream and executes what is due. The order
// respects only declared dependencies: the order within a stream, waits for events, the legacy default stream.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "device_memory.h"
#include "options.h"
#include "shared_state.h"

namespace carillon_emulation {

// Work that cannot be finished at once, because it waits for other processes (NCCL).
class LongTask {
 public:
  virtual ~LongTask() = default;
  // Does what is possible now; returns true when nothing is left.
  virtual bool progress() = 0;
};

class Executor {
 public:
  Executor(SharedState& shared, const SharedRegion& device_memory, const Options& options);

  // Runs until `stop` returns true; it is called whenever there is nothing to do.
  void run(const std::function<bool()>& stop);

  const MappedMemory& memory() const { return memory_; }
  // Reports the failure to the host and ends this process (or, if it is a thread, sleeps for good).
  [[noreturn]] void fail(cudaError_t error, const char* message);

 private:
  struct Command {
    CommandHeader header;
    std::vector<unsigned char> payload;
    std::unique_ptr<LongTask> task;  // once started
  };
  using Queue = std::deque<Command>;

  bool read_commands();
  void do_request(const Command& command);
  bool eligible(int stream);
  int choose();         // the stream whose first command is executed next, or -1
  int choose_needed();  // the same, but only for commands that a waiting host needs
  bool somebody_waits() const;
  void perform(int stream);  // executes the first command of the stream
  void finish(int stream);
  bool progress_tasks();

  SharedState& shared_;
  Options options_;
  MappedMemory memory_;
  std::vector<Queue> queues_ = std::vector<Queue>(kMostStreams);
  std::vector<int> active_;  // streams with commands
  std::uint64_t random_;
  std::uint32_t demands_seen_ = 0;
  double last_command_ = 0;
  KernelCounters kernel_counters_;
};

}  // namespace carillon_emulation
