// One writer at a time in a run's folder. The file .running in it is held with flock, which ends with the process, and
// says who holds it: host, process and when that began. Where flock does not reach other machines (some network file
// systems), the holder touches the file every few seconds, and whoever finds it names another host watches for that
// before taking over.
//
// The file is gone when the run has ended in order, and a folder that was made for it alone is gone too: a start that
// is refused before it wrote anything leaves what it found.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace carillon {

// Seconds between two touches, and how long another host's file is watched for the next one.
struct RunLockTimes {
  double between_touches = 4;
  double watched = 15;
};

class RunLock {
 public:
  // Makes the folder where it is missing. Error 73 when it cannot be made, or when another run is at work in it: its
  // line names process and host. `notice` is told when it waits to see whether a run on another host is alive.
  RunLock(const std::string& folder, const std::function<void(const std::string&)>& notice, RunLockTimes times = {});
  ~RunLock();
  RunLock(const RunLock&) = delete;

 private:
  void make_folder();
  [[noreturn]] void refuse(const std::string& holder) const;
  bool holder_is_alive(const std::string& holder) const;
  void keep_touching();

  std::string folder_, path_;
  RunLockTimes times_;
  std::vector<std::string> made_;  // folders that were not there, outermost first
  int descriptor_ = -1;
  std::thread heart_;
  std::mutex mutex_;
  std::condition_variable leave_;
  bool leaving_ = false;
};

// Whether a run is at work in `folder`, as far as this machine can tell: its lock is held, or another host's file was
// touched within the last minute.
bool run_is_at_work(const std::string& folder);

}  // namespace carillon
