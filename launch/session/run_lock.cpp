#include "launch/session/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <sstream>
#include <vector>

#include "data/files/posix_file.h"
#include "launch/session/process_id.h"
#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "/.running";
constexpr int64_t kSecondsFresh = 60;

std::string content_of(int descriptor) {
  char text[512];
  const ssize_t size = pread(descriptor, text, sizeof text, 0);
  std::string line(text, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  return line.substr(0, line.find('\n'));
}

struct Holder {
  std::string host, pid, began;
};
Holder parse(const std::string& text) {
  Holder holder;
  std::istringstream(text) >> holder.host >> holder.pid >> holder.began;
  return holder;
}

// A mere check (run_is_active) holds the lock for microseconds; a run that holds it still does after these tries.
constexpr int kTries = 10;
constexpr auto kBetweenTries = std::chrono::milliseconds(50);

enum class Lock { kTaken, kHeld, kUnknown };  // kUnknown: this file system has no locks
Lock try_lock(int descriptor) {
  for (int tries = 1; flock(descriptor, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return Lock::kUnknown;
    if (tries == kTries) return Lock::kHeld;
    std::this_thread::sleep_for(kBetweenTries);
  }
  return Lock::kTaken;
}

// Opens the file anew each time: a network file system asks its server when a file is opened.
timespec touched(const std::string& path) {
  struct stat status {};
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor >= 0) {
    (void)fstat(descriptor, &status);
    close(descriptor);
  }
  return status.st_mtim;
}

}  // namespace

RunLock::RunLock(const std::string& folder, const std::function<void(const std::string&)>& notice, RunLockTimes times)
    : folder_(folder), path_(folder + kName), times_(times) {
  make_folder();
  try {
    for (;;) {
      descriptor_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
      if (descriptor_ < 0)
        fail_to_create("cannot be created", errno, path_, "make the folder writable or name another output");
      const Lock lock = try_lock(descriptor_);
      const std::string text = content_of(descriptor_);
      if (lock == Lock::kHeld) refuse(text);
      // The previous holder may have removed the file between our opening and our locking it.
      struct stat ours {
      }, there{};
      const bool same = fstat(descriptor_, &ours) == 0 && stat(path_.c_str(), &there) == 0 &&
                        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
      if (!same) {
        close(descriptor_);
        continue;
      }
      const Holder holder = parse(text);
      if (holder.host.empty()) break;
      if (holder.host == host_name()) {
        if (lock == Lock::kUnknown && start_time(holder.pid) == holder.began) refuse(text);
        break;
      }
      notice(fmt::format("{} was in use by process {} on {}: watching for {:.0f} s whether it still is", folder_,
                         holder.pid, holder.host, times_.watched));
      if (holder_is_alive(text)) refuse(text);
      break;
    }
    const std::string mine = this_process() + "\n";
    const auto again = [](auto call) {  // repeats calls that a signal interrupted
      ssize_t result;
      do result = call();
      while (result < 0 && errno == EINTR);
      return result >= 0;
    };
    if (!again([&] { return ftruncate(descriptor_, 0); }) ||
        !again([&] { return pwrite(descriptor_, mine.data(), mine.size(), 0); })) {
      const int reason = errno;
      unlink(path_.c_str());  // this process holds the lock
      fail(ExitCode::kInputOutput, "cannot be written ({}), {}, make room and start again", std::strerror(reason),
           path_);
    }
    struct stat status {};
    if (stat(folder_.c_str(), &status) == 0) folder_device_ = status.st_dev, folder_number_ = status.st_ino;
  } catch (...) {
    if (descriptor_ >= 0) close(descriptor_);
    for (auto made = made_.rbegin(); made != made_.rend(); ++made) rmdir(made->c_str());
    throw;
  }
  toucher_ = std::thread([this] { keep_touching(); });
}

RunLock::~RunLock() {
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  stop_condition_.notify_all();
  toucher_.join();
  if (has_folder()) unlink(path_.c_str());
  close(descriptor_);
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) rmdir(made->c_str());  // those that are still empty
}

bool RunLock::has_folder() const {
  struct stat status {};
  if (folder_number_ == 0) return true;  // unknown: stat() failed at the start
  if (stat(folder_.c_str(), &status) == 0) return status.st_dev == folder_device_ && status.st_ino == folder_number_;
  return errno != ENOENT && errno != ENOTDIR;  // a server that does not answer says nothing about the folder
}

void RunLock::require_folder() const {
  if (!has_folder())
    fail(ExitCode::kCannotCreate,
         "the run's folder was moved, removed or replaced while the run was at work, {}, move it back (what has its "
         "name now is left as it is) or name another output, and start again",
         folder_);
}

void RunLock::make_folder() {
  std::error_code error;
  for (fs::path path = fs::path(folder_).lexically_normal(); !path.empty() && !fs::exists(path, error) && !error;
       path = path.parent_path())
    made_.insert(made_.begin(), path.string());
  fs::create_directories(folder_, error);
  if (error) fail_to_create("the run's folder cannot be created", error.value(), folder_, "name another output");
}

void RunLock::refuse(const std::string& text) const {
  const Holder holder = parse(text);
  fail(ExitCode::kCannotCreate,
       "another run is at work in this folder (process {} on {}), {}, wait for its end or name another output",
       holder.pid.empty() ? "unknown" : holder.pid, holder.host.empty() ? "an unknown host" : holder.host, folder_);
}

bool RunLock::holder_is_alive(const std::string& text) const {
  const timespec before = touched(path_);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(times_.watched);
  while (std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const timespec now = touched(path_);
    if (now.tv_sec != before.tv_sec || now.tv_nsec != before.tv_nsec) return true;
  }
  return content_of(descriptor_) != text;
}

void RunLock::keep_touching() {
  // The main thread handles signals.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock guard(mutex_);
  while (!stop_condition_.wait_for(guard, std::chrono::duration<double>(times_.between_touches),
                                   [this] { return stopping_; }))
    (void)futimens(descriptor_, nullptr);
}

std::string run_holder(const std::string& folder) {
  const std::string path = folder + kName;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) return "";
  const std::string text = content_of(descriptor);
  close(descriptor);
  return text;
}

bool run_is_active(const std::string& folder) {
  const std::string path = folder + kName;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) return false;
  bool held = false;
  while (flock(descriptor, LOCK_SH | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    held = errno == EWOULDBLOCK;
    break;
  }
  const Holder holder = parse(content_of(descriptor));
  close(descriptor);
  if (held) return true;
  if (holder.host == host_name()) return start_time(holder.pid) == holder.began;
  return !holder.host.empty() && std::abs(std::time(nullptr) - touched(path).tv_sec) < kSecondsFresh;
}

}  // namespace carillon
