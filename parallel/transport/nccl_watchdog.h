// Ends a process whose NCCL operations cannot end. The host may be inside a call of CUDA that waits for the device, and
// the device inside a kernel that waits for a peer which is gone: a thread of its own is the only one who can tell.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace carillon {

// Events that are used again. Makes more when all are in use.
class EventPool {
 public:
  ~EventPool();
  cudaEvent_t take();
  void give(cudaEvent_t event);

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
};

// One operation on a group's stream: between the two events. Gives them back when nobody needs them any more.
struct NcclOperation {
  NcclOperation(std::shared_ptr<EventPool> from, const char* name, int64_t count);
  ~NcclOperation();
  NcclOperation(const NcclOperation&) = delete;

  const std::shared_ptr<EventPool> pool;
  const char* const what;  // "an all-reduce"
  const int64_t number;    // of the group's operations, from 1
  const cudaEvent_t begin, end;
  const std::chrono::steady_clock::time_point called = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point begun{};  // as the watchdog has seen it
};

class NcclWatchdog {
 public:
  using Clock = std::chrono::steady_clock;

  // The process's one; its thread ends with the last owner.
  static std::shared_ptr<NcclWatchdog> of_process();
  NcclWatchdog();
  ~NcclWatchdog();

  // A group's communicator on `device`, from its making to its end. `who`: "rank 1 of 4 of group cp".
  void watch(ncclComm_t communicator, int device, std::string who, double timeout_seconds);
  void forget(ncclComm_t communicator);
  // Called on a communicator that is watched. Waits for the oldest operation when very many are under way.
  void add(ncclComm_t communicator, std::shared_ptr<NcclOperation> operation);

 private:
  struct Group {
    ncclComm_t communicator;
    int device;
    std::string who;
    double timeout_seconds;
    std::list<std::shared_ptr<NcclOperation>> operations;  // in their order on the stream
    Clock::time_point error_seen{};
  };
  void run();
  // What is wrong with a group; empty when nothing is. Drops operations that have ended.
  std::string examine(Group& group, Clock::time_point now);
  [[noreturn]] void end_process(const std::string& message);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Group> groups_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace carillon
