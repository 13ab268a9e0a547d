#include "launch/evaluate/sweep_claims.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "data/files/posix_file.h"
#include "launch/session/process_id.h"
#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr int kSecondsBetweenTouches = 20;
constexpr int kSecondsUntilStale = 180;  // on another host; allows for clocks that differ

}  // namespace

FolderLock::FolderLock(const std::string& folder) {
  const std::string path = folder + "/.lock";
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_to_create("cannot be created", errno, path, "make the folder writable");
  while (flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {
  }
}
FolderLock::~FolderLock() { close(descriptor_); }

SweepClaims::SweepClaims(const std::string& folder) : folder_(folder + "/claims") {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) fail_to_create("cannot be created", error.value(), folder_, "make the folder writable");
  mine_ = this_process() + "\n";
}

SweepClaims::~SweepClaims() { give_back(); }

bool SweepClaims::create(const std::string& path) const {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    if (errno == EEXIST) return false;
    fail_to_create("the point cannot be claimed", errno, path, "make the sweep's folder writable");
  }
  const int reason = write_all(descriptor, 0, mine_.data(), static_cast<int64_t>(mine_.size()));
  close(descriptor);
  if (reason == 0) return true;
  unlink(path.c_str());
  fail_to_write("the point cannot be claimed", reason, path);
}

bool SweepClaims::stale(const std::string& path) {
  std::ifstream file(path);
  std::string host, pid, began;
  if (!(file >> host >> pid >> began)) {
    // An incomplete claim is either being written or cut by a death. This process holds the lock, so it is the latter.
    return fs::exists(path);
  }
  if (host == host_name()) return start_time(pid) != began;
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return false;
  if (std::time(nullptr) - status.st_mtime > kSecondsUntilStale) return true;
  // A clock that is ahead, or was set back, dates touches in the future: then only that they stop tells.
  const Touch seen{status.st_mtim.tv_sec, status.st_mtim.tv_nsec, std::chrono::steady_clock::now()};
  const auto [known, is_new] = seen_.try_emplace(path, seen);
  if (!is_new && (known->second.seconds != seen.seconds || known->second.nanoseconds != seen.nanoseconds))
    known->second = seen;
  return seen.when - known->second.when > std::chrono::seconds(kSecondsUntilStale);
}

std::string SweepClaims::holder_of(const std::string& id) const {
  std::ifstream file(folder_ + "/" + id);
  std::string host, pid;
  return file >> host >> pid ? fmt::format("process {} on {}", pid, host) : "another process";
}

bool SweepClaims::take(const std::string& id) {
  const std::string path = folder_ + "/" + id;
  {
    const FolderLock lock(folder_);
    if (!create(path)) {
      if (!stale(path)) return false;
      fs::remove(path);
      if (!create(path)) return false;
    }
  }
  held_ = path;
  stopping_ = false;  // no touching thread is running yet
  toucher_ = std::thread([this] { keep_touching(); });
  return true;
}

void SweepClaims::keep_touching() {
  // The main thread handles signals.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock guard(mutex_);
  while (!stop_condition_.wait_for(guard, std::chrono::seconds(kSecondsBetweenTouches), [this] { return stopping_; }))
    utimensat(AT_FDCWD, held_.c_str(), nullptr, 0);
}

void SweepClaims::give_back() {
  if (held_.empty()) return;
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  stop_condition_.notify_all();
  toucher_.join();
  std::error_code error;
  fs::remove(held_, error);
  held_.clear();
}

}  // namespace carillon
