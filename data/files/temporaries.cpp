#include "data/files/temporaries.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

namespace carillon {
namespace {

// The list only grows, so that a handler can walk it at any time; a forgotten entry is reused.
struct Entry {
  std::atomic<const char*> path{nullptr};  // null: free
  pid_t owner = 0;
  Entry* next = nullptr;
};
std::atomic<Entry*> first{nullptr};
std::mutex writers;

// A handler on another thread may still be reading a name that has just been forgotten: it is freed only after this
// many more have been forgotten.
constexpr size_t kRetired = 256;
std::array<const char*, kRetired> retired{};
size_t next_retired = 0;

// readdir() allocates; the system call does not.
void remove_files_of(int folder) noexcept {
  alignas(dirent64) char block[4096];
  for (long size; (size = syscall(SYS_getdents64, folder, block, sizeof block)) > 0;)
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(block + at);
      (void)::unlinkat(folder, entry->d_name, 0);
      at += entry->d_reclen;
    }
}

}  // namespace

void remember_temporary(const std::string& path) {
  const char* copy = ::strdup(path.c_str());
  const std::lock_guard lock(writers);
  Entry* entry = first.load();
  while (entry != nullptr && entry->path.load() != nullptr) entry = entry->next;
  if (entry == nullptr) {
    entry = new Entry;
    entry->next = first.load();
    first.store(entry);
  }
  entry->owner = getpid();
  entry->path.store(copy);
}

void forget_temporary(const std::string& path) {
  const std::lock_guard lock(writers);
  for (Entry* entry = first.load(); entry != nullptr; entry = entry->next)
    if (const char* known = entry->path.load(); known != nullptr && path == known) {
      entry->path.store(nullptr);
      std::free(const_cast<char*>(std::exchange(retired[next_retired], known)));
      next_retired = (next_retired + 1) % kRetired;
      return;
    }
}

void remove_temporaries() noexcept {
  const pid_t self = getpid();
  for (const Entry* entry = first.load(); entry != nullptr; entry = entry->next) {
    const char* path = entry->path.load();
    if (path == nullptr || entry->owner != self || ::unlink(path) == 0) continue;
    const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) continue;
    remove_files_of(folder);
    ::close(folder);
    (void)::rmdir(path);
  }
}

}  // namespace carillon
