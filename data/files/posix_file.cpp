#include "data/files/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "data/files/temporaries.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

// The pauses between retries of a refused read: a path may come back (a network mount, a bus reset), but a broken one
// must be reported soon.
constexpr int kPausesMilliseconds[] = {5, 50, 500};

bool worth_another_try(int reason) {
  return reason == EIO || reason == ESTALE || reason == EAGAIN || reason == ETIMEDOUT || reason == ENOMEM;
}

// Repeats call() until it returns something other than -1 or the pauses are used up; EINTR uses none.
template <class Call>
auto persistently(Call call) {
  size_t pauses = 0;
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    const int reason = errno;
    if (reason == EINTR) continue;
    if (!worth_another_try(reason) || pauses == std::size(kPausesMilliseconds)) return result;
    usleep(static_cast<useconds_t>(1000 * kPausesMilliseconds[pauses++]));
  }
}

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  std::string text = name;
  for (char& c : text)
    if (c == '/') c = '_';
  return text.substr(0, 64);
}

}  // namespace

bool means_no_space(int reason) { return reason == ENOSPC || reason == EDQUOT || reason == EFBIG; }

void fail_to_write(const std::string& what, int reason, const std::string& path) {
  const std::string message =
      fmt::format("{} ({}), {}, check space and disk and start again", what, std::strerror(reason), path);
  if (means_no_space(reason)) throw NoSpace(message);
  throw Error(ExitCode::kInputOutput, message);
}

void fail_to_create(const std::string& what, int reason, const std::string& path, const char* to_do) {
  for (const int passing : {EIO, ESTALE, ETIMEDOUT, EREMOTEIO, EAGAIN, EINTR, ENOMEM, EMFILE, ENFILE})
    if (reason == passing) fail_to_write(what, reason, path);
  if (means_no_space(reason)) fail_to_write(what, reason, path);
  fail(ExitCode::kCannotCreate, "{} ({}), {}, {}", what, std::strerror(reason), path, to_do);
}

InputFile::InputFile(std::string path, Links links) : path_(std::move(path)) {
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (links == Links::kRefuse ? O_NOFOLLOW : 0);
  descriptor_ = persistently([&] { return ::open(path_.c_str(), flags); });
  if (descriptor_ < 0) {
    const int reason = errno;
    if (reason == ELOOP && links == Links::kRefuse)
      fail(ExitCode::kBadInput, "is a symbolic link, {}, put a regular file there", path_);
    if (reason == ENOENT || reason == ENOTDIR || reason == ELOOP || reason == ENAMETOOLONG)
      fail(ExitCode::kMissingInput, "there is no such file ({}), {}, correct the path", std::strerror(reason), path_);
    if (reason == ENXIO) fail(ExitCode::kBadInput, "is not a regular file, {}, name a file", path_);
    fail(ExitCode::kInputOutput, "cannot be opened ({}), {}, check its permissions and the disk", std::strerror(reason),
         path_);
  }
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    fail(ExitCode::kBadInput, "is not a regular file, {}, name a file", path_);
  }
  size_ = status.st_size;
}

InputFile::~InputFile() { ::close(descriptor_); }

int64_t read_up_to(int descriptor, int64_t place, void* to, int64_t bytes) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t count = persistently([&] {
      return ::pread(descriptor, static_cast<char*>(to) + done, static_cast<size_t>(bytes - done), place + done);
    });
    if (count < 0) return -1;
    if (count == 0) break;
    done += count;
    count_progress();
  }
  return done;
}

void InputFile::read(int64_t place, void* to, int64_t bytes, const std::string& what) const {
  read_exactly(descriptor_, place, to, bytes, what, path_);
}

void read_exactly(int descriptor, int64_t place, void* to, int64_t bytes, const std::string& what,
                  const std::string& path) {
  const std::string subject = what.empty() ? "" : what + " ";
  const int64_t count = read_up_to(descriptor, place, to, bytes);
  if (count < 0)
    fail(ExitCode::kInputOutput, "{}cannot be read ({}), {}, check the disk and start again", subject,
         std::strerror(errno), path);
  if (count < bytes) fail(ExitCode::kBadInput, "{}is cut off, {}, restore the file", subject, path);
}

std::string read_whole_file(const std::string& path, int64_t limit, Links links) {
  const InputFile file(path, links);
  if (file.size() > limit)
    fail(ExitCode::kBadInput, "is {} bytes, more than the {} that are read, {}, check that it is the right file",
         file.size(), limit, path);
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(0, text.data(), file.size());
  return text;
}

int write_all(int descriptor, int64_t place, const void* from, int64_t bytes) {
  const char* data = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t count = ::pwrite(descriptor, data, static_cast<size_t>(bytes), place);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count == 0 ? EIO : errno;
    count_progress();
    data += count, place += count, bytes -= count;
  }
  return 0;
}

int open_to_write(const std::string& path, bool create) {
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_TRUNC : 0);
  int descriptor = -1;
  do descriptor = ::open(path.c_str(), flags, 0666);
  while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) fail_to_write("cannot be opened to write", errno, path);
  return descriptor;
}

void sync_path(const std::string& path) {
  const int descriptor = persistently([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (descriptor < 0) fail_to_write("cannot be opened to be synced", errno, path);
  int result = 0;
  do result = ::fsync(descriptor);
  while (result != 0 && errno == EINTR);
  const int reason = errno;
  ::close(descriptor);
  if (result != 0) fail_to_write("cannot be synced", reason, path);
}

void replace_file(const std::string& path, std::string_view text) {
  const std::string temporary = make_temporary(path);
  try {
    const int descriptor = open_to_write(temporary, /*create=*/false);
    const int reason = write_all(descriptor, 0, text.data(), static_cast<int64_t>(text.size()));
    ::close(descriptor);
    if (reason != 0) fail_to_write("cannot be written", reason, path);
    sync_path(temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_to_write("cannot be renamed", errno, path);
    forget_temporary(temporary);
  } catch (...) {
    ::unlink(temporary.c_str());
    forget_temporary(temporary);
    throw;
  }
}

std::string make_temporary(const std::string& path) {
  std::string name = fmt::format("{}.tmp-{}-{}-XXXXXX", path, host_name(), getpid());
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0) {
    const int reason = errno;
    fail_to_create("cannot create a file", reason, path, "check that the folder exists and is writable");
  }
  const mode_t mask = ::umask(0);
  ::umask(mask);
  (void)::fchmod(descriptor, 0666 & ~mask);  // mkostemp creates with mode 0600; if this fails, the file only stays
                                             // private
  ::close(descriptor);
  remember_temporary(name);
  return name;
}

}  // namespace carillon
