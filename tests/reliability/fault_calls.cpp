// A library for LD_PRELOAD that makes a system call on files fail, or kills the process at this call. Its variables:
//   FAULT_UNDER=FOLDER     only calls on files below this folder count (absolute path); unset: no faults
//   FAULT_CALLS=a,b        which calls count: open read write sync rename mkdir unlink truncate map; default: all that
//                          change something, that is all except read, map and opening to read
//   FAULT_AT=N             the fault hits the N-th of these calls, from 1; 0: no fault, the calls are only counted
//   FAULT_LASTING=1        and every later one
//   FAULT_ACTION=eio|enospc|edquot|eintr|estale|short|kill|lose
//                          short: half of the bytes; kill: SIGKILL; lose: undoes everything that was not made durable
//                          by fsync of the file and of its folder, as a power loss does, then SIGKILL
//   FAULT_NO_SYNC=1        fsync does nothing (the control: `lose` must then lose data)
//   FAULT_RANK=R           only in rank R of an MPI job
//   FAULT_COUNT=FILE       holds the count so far in 8 bytes, also after the process has died
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

// ---- files and entries that are not durable yet

std::string contents(const std::string& path) {
  std::string bytes;
  const long file = syscall(SYS_open, path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return bytes;
  char block[65536];
  for (long count; (count = syscall(SYS_read, file, block, sizeof block)) > 0;)
    bytes.append(block, static_cast<size_t>(count));
  syscall(SYS_close, file);
  return bytes;
}

void put(const std::string& path, const std::string& bytes) {
  const long file = syscall(SYS_open, path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return;
  for (size_t done = 0; done < bytes.size();) {
    const long count = syscall(SYS_write, file, bytes.data() + done, bytes.size() - done);
    if (count <= 0) break;
    done += static_cast<size_t>(count);
  }
  syscall(SYS_close, file);
}

struct Entry {
  enum Kind { kCreated, kFolder, kRenamed } kind;
  std::string path, from;  // from: the old path of a rename
  bool replaced = false;   // whether a rename replaced a file
  std::string old;         // the bytes of the replaced file
};

std::map<std::string, std::string> durable;  // file with unsynced bytes -> its contents after a power loss
std::vector<Entry> entries;                  // entries not yet durable, in order

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
bool below(const std::string& path, const std::string& folder) {
  return path.compare(0, folder.size(), folder) == 0 && (path.size() == folder.size() || path[folder.size()] == '/');
}

void lose() {
  for (const auto& [path, bytes] : durable)
    if (access(path.c_str(), F_OK) == 0) put(path, bytes);
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    std::error_code ignored;
    if (entry->kind == Entry::kCreated) {
      syscall(SYS_unlink, entry->path.c_str());
    } else if (entry->kind == Entry::kFolder) {
      fs::remove_all(entry->path, ignored);
    } else {
      syscall(SYS_rename, entry->path.c_str(), entry->from.c_str());
      if (entry->replaced) put(entry->path, entry->old);
    }
  }
}

// ---- which call fails

struct Plan {
  bool active = false, lasting = false, no_sync = false, losing = false;
  std::string under, calls, action;
  long at = 0;
  std::atomic<long>* count = nullptr;

  Plan() {
    under = variable("FAULT_UNDER");
    const std::string rank = variable("FAULT_RANK"), mine = variable("OMPI_COMM_WORLD_RANK");
    // The launcher inherits the variables too, but is not under test.
    char name[32] = "";
    const long file = syscall(SYS_open, "/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
      syscall(SYS_read, file, name, sizeof name - 1);
      syscall(SYS_close, file);
    }
    if (under.empty() || std::strncmp(name, "carillon", 8) != 0) return;
    if (!rank.empty() && rank != (mine.empty() ? "0" : mine)) return;
    calls = variable("FAULT_CALLS");
    action = variable("FAULT_ACTION");
    at = std::atol(variable("FAULT_AT").c_str());
    lasting = !variable("FAULT_LASTING").empty();
    no_sync = !variable("FAULT_NO_SYNC").empty();
    losing = action == "lose";
    static std::atomic<long> here{0};
    count = &here;
    if (const std::string path = variable("FAULT_COUNT"); !path.empty()) {
      const long counter = syscall(SYS_open, path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
      if (counter >= 0 && syscall(SYS_ftruncate, counter, 8) == 0) {
        void* shared =
            reinterpret_cast<void*>(syscall(SYS_mmap, nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0));
        if (shared != MAP_FAILED) count = static_cast<std::atomic<long>*>(shared);
      }
      if (counter >= 0) syscall(SYS_close, counter);
    }
    active = true;
  }
};

const Plan& plan() {
  static const Plan the_plan;
  return the_plan;
}

std::recursive_mutex mutex;

std::string absolute(int folder, const char* path) {
  if (path[0] == '/') return path;
  char base[PATH_MAX] = "";
  if (folder == AT_FDCWD) {
    if (syscall(SYS_getcwd, base, sizeof base) < 0) return path;
  } else {
    const std::string link = "/proc/self/fd/" + std::to_string(folder);
    if (syscall(SYS_readlink, link.c_str(), base, sizeof base - 1) < 0) return path;
  }
  return std::string(base) + "/" + path;
}

std::string path_of(int descriptor) {
  char path[PATH_MAX] = "";
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const long length = syscall(SYS_readlink, link.c_str(), path, sizeof path - 1);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

bool watched(const std::string& path) { return plan().active && below(path, plan().under); }

enum class Outcome { kGoOn, kFail, kShort };

Outcome meet(const char* call, const std::string& path, bool changes) {
  const Plan& p = plan();
  if (!watched(path)) return Outcome::kGoOn;
  if (p.calls.empty() ? !changes : ("," + p.calls + ",").find("," + std::string(call) + ",") == std::string::npos)
    return Outcome::kGoOn;
  const long number = ++*p.count;
  if (p.at == 0 || number < p.at || (number > p.at && !p.lasting)) return Outcome::kGoOn;
  if (p.action == "kill" || p.action == "lose") {
    if (p.losing) lose();
    syscall(SYS_kill, getpid(), SIGKILL);
  }
  if (p.action == "short") return Outcome::kShort;
  errno = p.action == "enospc"   ? ENOSPC
          : p.action == "edquot" ? EDQUOT
          : p.action == "eintr"  ? EINTR
          : p.action == "estale" ? ESTALE
                                 : EIO;
  return Outcome::kFail;
}

// Saves the durable contents of a file; called before each change, effective before the first unsynced one.
void remember(const std::string& path) {
  if (plan().losing && watched(path)) durable.try_emplace(path, contents(path));
}

// ---- the calls

template <class Real, class... Arguments>
ssize_t transfer(const char* call, int descriptor, bool changes, size_t bytes, Real real) {
  if (!plan().active) return real(bytes);
  const std::lock_guard lock(mutex);
  const std::string path = path_of(descriptor);
  if (changes) remember(path);
  switch (meet(call, path, changes)) {
    case Outcome::kFail:
      return -1;
    case Outcome::kShort:
      return real(bytes > 1 ? bytes / 2 : bytes);
    default:
      return real(bytes);
  }
}

template <class Real>
int open_any(int folder, const char* name, int flags, Real real) {
  if (!plan().active) return real();
  const std::lock_guard lock(mutex);
  const std::string path = absolute(folder, name);
  if (!watched(path)) return real();
  const bool changes = (flags & (O_CREAT | O_TRUNC)) != 0, there = access(path.c_str(), F_OK) == 0;
  if (there && (flags & O_TRUNC) != 0) remember(path);
  if (meet("open", path, changes) == Outcome::kFail) return -1;
  const int descriptor = real();
  if (descriptor >= 0 && !there && plan().losing) {
    entries.push_back({Entry::kCreated, path, "", false, ""});
    durable.try_emplace(path, "");
  }
  return descriptor;
}

template <class Real>
int sync_any(int descriptor, Real real) {
  if (!plan().active) return real();
  const std::lock_guard lock(mutex);
  const std::string path = path_of(descriptor);
  if (meet("sync", path, true) == Outcome::kFail) return -1;
  if (plan().no_sync) return 0;
  const int result = real();
  if (result != 0 || !plan().losing) return result;
  durable.erase(path);  // if it is a file, its current contents are durable now
  std::erase_if(entries, [&](const Entry& entry) { return folder_of(entry.path) == path; });
  return result;
}

int rename_any(const std::string& from, const std::string& to, int (*real)(const char*, const char*)) {
  const std::lock_guard lock(mutex);
  if (!watched(from) && !watched(to)) return real(from.c_str(), to.c_str());
  if (meet("rename", to, true) == Outcome::kFail) return -1;
  Entry entry{Entry::kRenamed, to, from, false, ""};
  struct stat status {};
  entry.replaced = plan().losing && stat(to.c_str(), &status) == 0 && S_ISREG(status.st_mode);
  if (entry.replaced) entry.old = durable.contains(to) ? durable[to] : contents(to);
  const int result = real(from.c_str(), to.c_str());
  if (result != 0 || !plan().losing) return result;
  const auto moved = [&](std::string& path) {
    if (below(path, from)) path = to + path.substr(from.size());
  };
  std::map<std::string, std::string> files;
  for (auto& [path, bytes] : durable) {
    if (path == to) continue;
    std::string name = path;
    moved(name);
    files.emplace(std::move(name), std::move(bytes));
  }
  durable = std::move(files);
  for (Entry& earlier : entries) moved(earlier.path);
  entries.push_back(std::move(entry));
  return result;
}

template <class Real>
int remove_any(const std::string& path, Real real) {
  const std::lock_guard lock(mutex);
  if (meet("unlink", path, true) == Outcome::kFail) return -1;
  const int result = real();
  if (result == 0) durable.erase(path);
  return result;
}

}  // namespace

extern "C" {

#define REAL(name) next<decltype(&name)>(#name)

ssize_t write(int file, const void* from, size_t bytes) {
  static const auto real = REAL(write);
  return transfer("write", file, true, bytes, [&](size_t count) { return real(file, from, count); });
}
ssize_t pwrite(int file, const void* from, size_t bytes, off_t at) {
  static const auto real = REAL(pwrite);
  return transfer("write", file, true, bytes, [&](size_t count) { return real(file, from, count, at); });
}
ssize_t pwrite64(int file, const void* from, size_t bytes, off64_t at) {
  static const auto real = REAL(pwrite64);
  return transfer("write", file, true, bytes, [&](size_t count) { return real(file, from, count, at); });
}
ssize_t writev(int file, const iovec* parts, int count) {
  static const auto real = REAL(writev);
  return transfer("write", file, true, static_cast<size_t>(count),
                  [&](size_t some) { return real(file, parts, static_cast<int>(some)); });
}
ssize_t read(int file, void* to, size_t bytes) {
  static const auto real = REAL(read);
  return transfer("read", file, false, bytes, [&](size_t count) { return real(file, to, count); });
}
ssize_t pread(int file, void* to, size_t bytes, off_t at) {
  static const auto real = REAL(pread);
  return transfer("read", file, false, bytes, [&](size_t count) { return real(file, to, count, at); });
}
ssize_t pread64(int file, void* to, size_t bytes, off64_t at) {
  static const auto real = REAL(pread64);
  return transfer("read", file, false, bytes, [&](size_t count) { return real(file, to, count, at); });
}
ssize_t readv(int file, const iovec* parts, int count) {
  static const auto real = REAL(readv);
  return transfer("read", file, false, static_cast<size_t>(count),
                  [&](size_t some) { return real(file, parts, static_cast<int>(some)); });
}
void* mmap(void* where, size_t bytes, int protection, int flags, int file, off_t at) {
  if (file >= 0 && plan().active && meet("map", path_of(file), false) == Outcome::kFail) return MAP_FAILED;
  static const auto real = REAL(mmap);
  return real(where, bytes, protection, flags, file, at);
}

#define OPEN_MODE                             \
  mode_t mode = 0;                            \
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) { \
    va_list list;                             \
    va_start(list, flags);                    \
    mode = va_arg(list, mode_t);              \
    va_end(list);                             \
  }
int open(const char* path, int flags, ...) {
  OPEN_MODE
  static const auto real = REAL(open);
  return open_any(AT_FDCWD, path, flags, [&] { return real(path, flags, mode); });
}
int open64(const char* path, int flags, ...) {
  OPEN_MODE
  static const auto real = REAL(open64);
  return open_any(AT_FDCWD, path, flags, [&] { return real(path, flags, mode); });
}
int openat(int folder, const char* path, int flags, ...) {
  OPEN_MODE
  static const auto real = REAL(openat);
  return open_any(folder, path, flags, [&] { return real(folder, path, flags, mode); });
}
int mkostemp(char* name, int flags) {
  static const auto real = REAL(mkostemp);
  if (!plan().active || !watched(absolute(AT_FDCWD, name))) return real(name, flags);
  const std::lock_guard lock(mutex);
  if (meet("open", absolute(AT_FDCWD, name), true) == Outcome::kFail) return -1;
  const int descriptor = real(name, flags);
  if (descriptor >= 0 && plan().losing) {
    const std::string path = absolute(AT_FDCWD, name);
    entries.push_back({Entry::kCreated, path, "", false, ""});
    durable.try_emplace(path, "");
  }
  return descriptor;
}
FILE* fopen(const char* path, const char* mode) {
  static const auto real = REAL(fopen);
  if (plan().active && meet("open", absolute(AT_FDCWD, path), mode[0] != 'r') == Outcome::kFail) return nullptr;
  return real(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  static const auto real = REAL(fopen64);
  if (plan().active && meet("open", absolute(AT_FDCWD, path), mode[0] != 'r') == Outcome::kFail) return nullptr;
  return real(path, mode);
}
int fsync(int file) {
  static const auto real = REAL(fsync);
  return sync_any(file, [&] { return real(file); });
}
int fdatasync(int file) {
  static const auto real = REAL(fdatasync);
  return sync_any(file, [&] { return real(file); });
}
int ftruncate(int file, off_t size) {
  static const auto real = REAL(ftruncate);
  if (!plan().active) return real(file, size);
  const std::lock_guard lock(mutex);
  remember(path_of(file));
  if (meet("truncate", path_of(file), true) == Outcome::kFail) return -1;
  return real(file, size);
}
int truncate(const char* path, off_t size) {
  static const auto real = REAL(truncate);
  if (!plan().active) return real(path, size);
  const std::lock_guard lock(mutex);
  remember(absolute(AT_FDCWD, path));
  if (meet("truncate", absolute(AT_FDCWD, path), true) == Outcome::kFail) return -1;
  return real(path, size);
}
int rename(const char* from, const char* to) {
  static const auto real = REAL(rename);
  if (!plan().active) return real(from, to);
  return rename_any(absolute(AT_FDCWD, from), absolute(AT_FDCWD, to), real);
}
int mkdir(const char* path, mode_t mode) {
  static const auto real = REAL(mkdir);
  if (!plan().active) return real(path, mode);
  const std::lock_guard lock(mutex);
  const std::string name = absolute(AT_FDCWD, path);
  if (meet("mkdir", name, true) == Outcome::kFail) return -1;
  const int result = real(path, mode);
  if (result == 0 && plan().losing && watched(name)) entries.push_back({Entry::kFolder, name, "", false, ""});
  return result;
}
int unlink(const char* path) {
  static const auto real = REAL(unlink);
  if (!plan().active) return real(path);
  return remove_any(absolute(AT_FDCWD, path), [&] { return real(path); });
}
int unlinkat(int folder, const char* path, int flags) {
  static const auto real = REAL(unlinkat);
  if (!plan().active) return real(folder, path, flags);
  return remove_any(absolute(folder, path), [&] { return real(folder, path, flags); });
}
int rmdir(const char* path) {
  static const auto real = REAL(rmdir);
  if (!plan().active) return real(path);
  return remove_any(absolute(AT_FDCWD, path), [&] { return real(path); });
}

}  // extern "C"
