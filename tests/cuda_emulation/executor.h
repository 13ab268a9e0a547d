// The device process: reads commands, keeps a queue for every stream and does what is due, in an order that honours
// only what was declared: the order within a stream, events waited for, the legacy default stream.
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

// Work that cannot be finished at once, since it waits for other processes (NCCL).
class LongTask {
 public:
  virtual ~LongTask() = default;
  // Does what can be done now; true when nothing is left.
  virtual bool progress() = 0;
};

class Executor {
 public:
  Executor(SharedState& shared, const SharedRegion& device_memory, const Options& options);

  // Until `stop` returns true, which is asked when there is nothing to do.
  void run(const std::function<bool()>& stop);

  const MappedMemory& memory() const { return memory_; }
  // Prints what went wrong, tells the host and ends this process (or, as a thread, stops for good).
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
  int choose();         // a stream whose first command is to be done, or -1
  int choose_needed();  // the same, only what a waiting host needs
  bool somebody_waits() const;
  void perform(int stream);  // the first command of the stream
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
