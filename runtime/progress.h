// What this process is doing, for a watcher: another thread, or another process on the same machine, which can read it
// even while this process is stopped or its main thread is stuck (parallel/watch/). The main thread reports three
// things, each with a few stores:
//
//   moved       a counter that increases with all work done: a block read, a document, a layer, an operation.
//   Activity    what the program is doing, in words: "reading data", "a checkpoint".
//   Operation   one exchange between ranks; the last kOperations are kept with their begin and end times. While an
//               operation waits for other ranks, `waits` is positive: a rank that does not move is then not at fault.
//
// The record contains no pointers. It lies in memory shared through a descriptor that has no name in any file system,
// so a killed process leaves nothing behind.
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
    std::atomic<int64_t> begin, end;  // nanoseconds of CLOCK_MONOTONIC; end 0: still running
  };

  uint64_t magic = kMagic;
  uint64_t job = 0;  // identifies one start of the program on this machine; the same on all its ranks
  int32_t rank = 0, ranks = 1;
  std::atomic<uint64_t> moved{0};
  std::atomic<uint64_t> operations{0};                 // number of operations begun; operation n is at n % kOperations
  std::atomic<int32_t> waits{0};                       // number of waiting operations that the main thread is inside of
  std::atomic<int32_t> speaking{0};                    // this rank's watch thread is about to end the job
  std::atomic<int32_t> samples{0}, samples_in_mpi{0};  // of the waiting thread's program counter (rank_watch.h)
  char activity[64] = "starting";
  Operation ring[kOperations] = {};
};

// The record of this process; always valid. Other processes can read it after share_progress().
ProgressRecord& progress();
// Moves the record into memory that other processes of this user can map through /proc/PID/fd. Call it once, before
// other threads start. If there is no such memory (no /proc, no descriptor left), the record stays private.
void share_progress(int rank, int ranks, uint64_t job);
// The name of the descriptor: /proc/PID/fd/N is a link to "/memfd:" + this.
inline constexpr std::string_view kProgressName = "carillon-progress";

// Counts a unit of work. Any thread may call it.
inline void count_progress() noexcept;

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
  enum class Kind { kStart, kWait };  // starts something and continues; or waits for other ranks
  Operation(Kind kind, const char* what, std::string_view group, int64_t count = 0, int dtype = -1);
  ~Operation();
  Operation(const Operation&) = delete;

 private:
  uint64_t number_;
  Kind kind_;
};

// "in all_gather of 4 float64 on dp_cp (operation 57), at a checkpoint". The record may change during the call.
std::string describe_place(const ProgressRecord& record);
// The last operations, at most `most`, one per line, newest last.
std::string describe_history(const ProgressRecord& record, int most);

// runtime.patience in seconds, how long ranks may fail to move; 0: forever. A change applies at once to the whole
// process.
void set_patience(double seconds);
double patience();

namespace detail {
extern std::atomic<ProgressRecord*> shared_progress;
}
inline void count_progress() noexcept {
  detail::shared_progress.load(std::memory_order_relaxed)->moved.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace carillon
