// Who works on which point, where several processes share one sweep's folder. A claim is a file created exclusively; on
// the same host it is free again exactly when its process is dead, on another host when nobody has touched it for a
// while.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace carillon {

class SweepClaims {
 public:
  // Files in `folder`/claims. Error 73 when it cannot be made.
  explicit SweepClaims(const std::string& folder);
  ~SweepClaims();  // gives back what is held
  SweepClaims(const SweepClaims&) = delete;

  // True: this process has the point now. Stale claims are taken over.
  bool take(const std::string& id);
  void give_back();

 private:
  bool create(const std::string& path) const;
  bool stale(const std::string& path) const;
  void keep_touching();

  std::string folder_;
  std::string mine_;  // what is in this process's claims
  std::string held_;
  std::thread heart_;
  std::mutex mutex_;
  std::condition_variable leave_;
  bool leaving_ = false;
};

// Whole under an advisory lock that processes of one sweep take turns with.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace carillon
