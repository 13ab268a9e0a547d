// What this process is at, for whoever watches it: another thread, or another process of the same machine, which sees
// it even while this one is stopped or its main thread stuck (parallel/watch/). Three things are told, all by the main
// thread, at the cost of some stores:
//
//   moved       a counter that goes up with everything that gets done: a block read, a document, a layer, an operation.
//   Activity    what the program is at, in a person's words: "reading data", "a checkpoint".
//   Operation   one exchange between ranks; the last kOperations of them stay, with the times they began and ended.
//               While the thread waits for other ranks in one, it is waiting(): not moving is then nobody's fault here.
//
// The record lies in memory that carries no pointers and is shared by way of a descriptor without a name in any file
// system, so nothing is left behind by a process that is killed.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/dtype.h"

namespace carillon {

struct ProgressRecord {
  static constexpr uint64_t kMagic = 0x6361726c6c6e3031;
  static constexpr int kOperations = 64;

  struct Operation {
    char what[20];  // "all_gather"
    char group[16];
    int64_t count;  // elements
    int32_t dtype;  // DType; -1: none
    int32_t reserved;
    std::atomic<int64_t> begin, end;  // nanoseconds of CLOCK_MONOTONIC; end 0: still in it
  };

  uint64_t magic = kMagic;
  uint64_t job = 0;  // the same for all ranks of one start, and for no others on this machine
  int32_t rank = 0, ranks = 1;
  std::atomic<uint64_t> moved{0};
  std::atomic<uint64_t> operations{0};  // how many were begun; number n is at n % kOperations
  std::atomic<int32_t> waits{0};        // how many operations that wait for others the main thread is inside of
  std::atomic<int32_t> speaking{0};     // its watch thread is about to end the job
  std::atomic<int32_t> samples{0}, samples_in_mpi{0};  // of the waiting thread's place in the program (rank_watch.h)
  char activity[64] = "starting";
  Operation ring[kOperations] = {};
};

// This process's record; always there. Shared with other processes from share_progress on.
ProgressRecord& progress();
// Moves the record into memory that other processes of this user can map through /proc/PID/fd. Once, before there are
// other threads. Without such memory (no /proc, no descriptor left) the record stays private.
void share_progress(int rank, int ranks, uint64_t job);
// The name by which the descriptor is found: /proc/PID/fd/N is a link to "/memfd:" + this.
inline constexpr std::string_view kProgressName = "carillon-progress";

// May be called by any thread.
inline void moved() noexcept;

class Activity {
 public:
  explicit Activity(const char* name);
  ~Activity();
  Activity(const Activity&) = delete;

 private:
  const char* before_;
};

class Operation {
 public:
  enum class Kind { kStart, kWait };  // begins something and goes on; or waits for others until it ends
  Operation(Kind kind, const char* what, std::string_view group, int64_t count = 0, int dtype = -1);
  ~Operation();
  Operation(const Operation&) = delete;

 private:
  uint64_t number_;
  Kind kind_;
};

// "all_gather of 4 float64 on dp_cp (operation 57), at a checkpoint". Of any record, also one that changes meanwhile.
std::string describe_place(const ProgressRecord& record);
// The last operations, a line each, newest last.
std::string describe_history(const ProgressRecord& record, int most);

// runtime.patience in seconds; 0: never. For the whole process, at once.
void set_patience(double seconds);
double patience();

namespace detail {
extern std::atomic<ProgressRecord*> shared_progress;
}
inline void moved() noexcept {
  detail::shared_progress.load(std::memory_order_relaxed)->moved.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace carillon
