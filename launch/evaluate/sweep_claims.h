// Assigns points to the processes that share one sweep's folder. A claim is a file created exclusively. A claim of a
// process on this host is free again exactly when that process is dead; a claim from another host, when it has not been
// touched for a while.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace carillon {

class SweepClaims {
 public:
  // Keeps its files in `folder`/claims. Throws error 73 if that cannot be created.
  explicit SweepClaims(const std::string& folder);
  ~SweepClaims();  // gives back the claim it holds
  SweepClaims(const SweepClaims&) = delete;

  // Claims a point; takes over stale claims. Returns whether this process has the point now.
  bool take(const std::string& id);
  void give_back();
  // "process 123 on host", for a message; "another process" if the claim cannot be read.
  std::string holder_of(const std::string& id) const;

 private:
  struct Touch {
    int64_t seconds, nanoseconds;  // the claim's time of modification
    std::chrono::steady_clock::time_point when;
  };

  bool create(const std::string& path) const;
  bool stale(const std::string& path);
  void keep_touching();

  std::string folder_;
  std::string mine_;  // contents of this process's claims
  std::string held_;
  std::map<std::string, Touch> seen_;  // other hosts' claims: when this process first saw their last touch
  std::thread toucher_;
  std::mutex mutex_;
  std::condition_variable stop_condition_;
  bool stopping_ = false;
};

// Holds an advisory lock on a folder, so that processes of one sweep change it in turns.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace carillon
