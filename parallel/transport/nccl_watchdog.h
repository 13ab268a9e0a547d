// Ends a process whose NCCL operations cannot complete. The host may be inside a CUDA call that waits for the device,
// and the device inside a kernel that waits for a peer that is gone. Only a separate thread can detect this.
//
// NCCL does not protect a communicator against concurrent calls: even ncclCommGetAsyncError joins and frees what
// earlier calls have left (2.27 to 2.30, comm->groupJob). So whoever calls NCCL for a group holds `NcclGroup::calls`,
// and the watchdog queries a communicator only if it gets this lock without waiting. Only ncclCommAbort is meant to be
// called from another thread.
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

// A pool of reusable events. Creates more when all are in use.
class EventPool {
 public:
  ~EventPool();
  cudaEvent_t take();
  void give(cudaEvent_t event);

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
};

// One operation on a group's stream, enclosed by two events. Returns them to the pool when it is no longer referenced.
struct NcclOperation {
  NcclOperation(std::shared_ptr<EventPool> from, const char* name, int64_t count);
  ~NcclOperation();
  NcclOperation(const NcclOperation&) = delete;

  const std::shared_ptr<EventPool> pool;
  const char* const what;  // "an all-reduce"
  const int64_t number;    // counts the group's operations, from 1
  const cudaEvent_t begin, end;
  const std::chrono::steady_clock::time_point called = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point begun{};  // when the watchdog first saw it running
};

// A group's communicator, shared by its rank and the watchdog.
struct NcclGroup {
  NcclGroup(int on_device, std::string name, double seconds)
      : device(on_device), who(std::move(name)), timeout_seconds(seconds) {}
  const int device;
  const std::string who;  // "rank 1 of 4 of group cp"
  const double timeout_seconds;
  std::mutex calls;
  std::atomic<ncclComm_t> communicator = nullptr;  // non-null from creation until destruction
  // The call that the rank is in (the host may wait in it for its peers); nullptr between calls.
  std::atomic<const char*> call = nullptr;
  std::atomic<std::chrono::steady_clock::time_point> call_began = std::chrono::steady_clock::time_point{};
};

// Marks that the rank calls NCCL for the group, until the end of the scope.
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

  // The only watchdog of the process. Its thread ends when the last owner is gone.
  static std::shared_ptr<NcclWatchdog> of_process();
  NcclWatchdog();
  ~NcclWatchdog();

  // A group is watched from before its communicator is created until after it was finalised. The watchdog does not
  // touch the group after forget() returns.
  void watch(std::shared_ptr<NcclGroup> group);
  void forget(const NcclGroup& group);
  // The group must be watched. Waits for the oldest operation if too many are in flight.
  void add(const NcclGroup& group, std::shared_ptr<NcclOperation> operation);

 private:
  struct Watched {
    std::shared_ptr<NcclGroup> group;
    std::list<std::shared_ptr<NcclOperation>> operations;  // in stream order
    Clock::time_point error_seen{};
  };
  void run();
  // Returns what is wrong with a group; empty if nothing is. Drops operations that have ended.
  std::string examine(Watched& watched, Clock::time_point now);
  [[noreturn]] void end_process(const std::string& message);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Watched> groups_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace carillon
