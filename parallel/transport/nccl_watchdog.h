// Ends a process whose NCCL operations cannot end. The host may be inside a call of CUDA that waits for the device, and
// the device inside a kernel that waits for a peer which is gone: a thread of its own is the only one who can tell.
//
// NCCL does not guard a communicator against two threads: even ncclCommGetAsyncError joins and frees what the calls
// before it have left (2.27 to 2.30, comm->groupJob). So `NcclGroup::calls` is held by whoever calls NCCL for it, and
// the watchdog asks only where it gets that without waiting. ncclCommAbort alone is made for another thread.
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

// A group's communicator, which its rank and the watchdog share.
struct NcclGroup {
  NcclGroup(int on_device, std::string name, double seconds)
      : device(on_device), who(std::move(name)), timeout_seconds(seconds) {}
  const int device;
  const std::string who;  // "rank 1 of 4 of group cp"
  const double timeout_seconds;
  std::mutex calls;
  std::atomic<ncclComm_t> communicator = nullptr;  // from its making to its end
  // The call that the rank is in, for the host may wait in it for its peers; nullptr between calls.
  std::atomic<const char*> call = nullptr;
  std::atomic<std::chrono::steady_clock::time_point> call_began = std::chrono::steady_clock::time_point{};
};

// The rank calls NCCL for the group, from here to the end of the scope.
class NcclCall {
 public:
  NcclCall(NcclGroup& group, const char* what) : group_(group), lock_(group.calls) {
    group_.call_began = std::chrono::steady_clock::now();
    group_.call = what;
  }
  ~NcclCall() { group_.call = nullptr; }
  NcclCall(const NcclCall&) = delete;

 private:
  NcclGroup& group_;
  const std::lock_guard<std::mutex> lock_;
};

class NcclWatchdog {
 public:
  using Clock = std::chrono::steady_clock;

  // The process's one; its thread ends with the last owner.
  static std::shared_ptr<NcclWatchdog> of_process();
  NcclWatchdog();
  ~NcclWatchdog();

  // From before its communicator is made until after that has ended. When forget() returns the watchdog has no hand on
  // the group.
  void watch(std::shared_ptr<NcclGroup> group);
  void forget(const NcclGroup& group);
  // Called for a group that is watched. Waits for the oldest operation when very many are under way.
  void add(const NcclGroup& group, std::shared_ptr<NcclOperation> operation);

 private:
  struct Watched {
    std::shared_ptr<NcclGroup> group;
    std::list<std::shared_ptr<NcclOperation>> operations;  // in their order on the stream
    Clock::time_point error_seen{};
  };
  void run();
  // What is wrong with a group; empty when nothing is. Drops operations that have ended.
  std::string examine(Watched& watched, Clock::time_point now);
  [[noreturn]] void end_process(const std::string& message);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Watched> groups_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace carillon
