// How long this process has waited for other ranks: wall time inside blocking calls of a transport. The rest of a step
// is this rank's own work, so a slow rank can be told from those that wait for it.
#pragma once

#include <chrono>

namespace carillon {

// Counts from construction to destruction. Used only by the one thread that communicates (MPI_THREAD_FUNNELED).
class WaitTime {
 public:
  WaitTime() : begin_(std::chrono::steady_clock::now()), outer_(depth_++ == 0) {}
  ~WaitTime() {
    --depth_;
    if (outer_) total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  WaitTime(const WaitTime&) = delete;

  static double seconds() { return total_; }  // since the thread began

 private:
  static inline thread_local double total_ = 0;
  static inline thread_local int depth_ = 0;  // a collective may call others
  std::chrono::steady_clock::time_point begin_;
  bool outer_;
};

}  // namespace carillon
