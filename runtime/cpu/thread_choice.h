// How many threads a stream of short parallel regions uses while other processes may take some of the cores. A region
// ends when its last thread does; if that thread's core is taken for a time slice, all of them wait, so one thread less
// is often faster. Nothing in the system says so reliably; the choice is therefore made by measurement: from time to
// time one thread less or more is tried, and kept if the throughput is higher. Only for ops whose results do not depend
// on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace carillon::cpu {

class ThreadChoice {
 public:
  // Begins with all of them.
  explicit ThreadChoice(int most) : most_(std::max(most, 1)), now_(most_), kept_(most_) {}

  int threads() const { return now_; }

  // Reports a region that ran on threads(). `work` in any unit that grows with the time it takes on one thread.
  void add(int64_t work, double seconds) {
    if (most_ == 1) return;
    work_ += static_cast<double>(work), seconds_ += seconds;
    if (seconds_ < kWindow) return;
    const double rate = work_ / seconds_;
    work_ = seconds_ = 0;
    if (now_ == kept_)
      after_kept(rate);
    else
      after_trial(rate);
  }

  static constexpr double kWindow = 0.02;                     // seconds of regions that are compared
  static constexpr int kShortestWait = 4, kLongestWait = 64;  // windows between trials
  static constexpr double kWorthwhile = 1.05;                 // a trial is kept if it is this much faster

 private:
  void after_kept(double rate) {
    rate_ = rate;
    if (--wait_ > 0) return;
    if (now_ + direction_ < 1 || now_ + direction_ > most_) direction_ = -direction_;
    now_ += direction_;
  }
  void after_trial(double rate) {
    if (rate > rate_ * kWorthwhile) {
      kept_ = now_, rate_ = rate;
      pause_ = kShortestWait;
    } else {
      now_ = kept_;
      direction_ = -direction_;
      pause_ = std::min(2 * pause_, kLongestWait);
    }
    wait_ = pause_;
  }

  int most_, now_, kept_;
  int direction_ = -1;
  int pause_ = kShortestWait, wait_ = kShortestWait;
  double work_ = 0, seconds_ = 0;  // of the present window
  double rate_ = 0;                // of the last window with kept_ threads
};

}  // namespace carillon::cpu
