// Allows one writer at a time in a run's folder. The file .running in it is held with flock, which the system releases
// when the process ends. The file names its holder: host, process and the process's start time. flock may not reach
// other machines on some network file systems. For them the holder touches the file every few seconds, and a process
// that finds another host named in it watches for a touch before it takes over.
//
// The file is removed when the run ends normally, and so is a folder that was created only for it: a start that is
// refused before it wrote anything leaves everything as it was.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace carillon {

// Seconds between two touches, and how long another host's file is watched for one.
struct RunLockTimes {
  double between_touches = 4;
  double watched = 15;
};

class RunLock {
 public:
  // Creates the folder if it is missing. Throws error 73 if it cannot be created or another run is active in it; the
  // message names that run's process and host. `notice` is told if the constructor has to wait to see whether a run on
  // another host is alive.
  RunLock(const std::string& folder, const std::function<void(const std::string&)>& notice, RunLockTimes times = {});
  ~RunLock();
  RunLock(const RunLock&) = delete;

  // Whether the folder's name still leads to the folder that is locked. Otherwise it was moved, removed or replaced,
  // and what has the name now is not this run's.
  bool has_folder() const;
  // Error 73 if not.
  void require_folder() const;

 private:
  void make_folder();
  [[noreturn]] void refuse(const std::string& holder) const;
  bool holder_is_alive(const std::string& holder) const;
  void keep_touching();

  std::string folder_, path_;
  RunLockTimes times_;
  std::vector<std::string> made_;  // folders created here, outermost first
  int descriptor_ = -1;
  uint64_t folder_device_ = 0, folder_number_ = 0;  // inode
  std::thread toucher_;
  std::mutex mutex_;
  std::condition_variable stop_condition_;
  bool stopping_ = false;
};

// The line of .running that names the holder; empty if there is none.
std::string run_holder(const std::string& folder);

// Whether a run is active in `folder`, as far as this machine can tell: its lock is held, or another host's file was
// touched within the last minute.
bool run_is_active(const std::string& folder);

}  // namespace carillon
