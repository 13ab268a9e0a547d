#include "data/files/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/error.h"

namespace carillon {

OpenedFile open_regular_file(const std::string& path) {
  // O_NONBLOCK: opening a FIFO without a writer returns at once; on regular files it means nothing.
  OpenedFile file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), 0};
  if (file.descriptor < 0) {
    const int reason = errno;
    if (reason == ENOENT || reason == ENOTDIR || reason == ELOOP || reason == ENAMETOOLONG)
      fail(ExitCode::kMissingInput, "there is no such file ({}), {}, correct the path", std::strerror(reason), path);
    if (reason == ENXIO) fail(ExitCode::kBadInput, "is no regular file, {}, name a file", path);
    fail(ExitCode::kInputOutput, "cannot be opened ({}), {}, check its permissions and the disk", std::strerror(reason),
         path);
  }
  struct stat status {};
  if (::fstat(file.descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file.descriptor);
    fail(ExitCode::kBadInput, "is no regular file, {}, name a file", path);
  }
  file.size = status.st_size;
  return file;
}

void read_exactly(int descriptor, int64_t place, void* to, int64_t bytes, const std::string& what,
                  const std::string& path) {
  char* target = static_cast<char*>(to);
  while (bytes > 0) {
    // Linux moves at most 2 GiB a call; asking for less keeps every file system honest.
    const auto wanted = static_cast<size_t>(std::min(bytes, int64_t{1} << 30));
    const ssize_t count = ::pread(descriptor, target, wanted, place);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      fail(ExitCode::kInputOutput, "{} cannot be read ({}), {}, check the disk and try again", what,
           std::strerror(errno), path);
    if (count == 0) fail(ExitCode::kBadInput, "{} is cut off, {}, restore the file", what, path);
    place += count, target += count, bytes -= count;
  }
}

std::string read_text_file(const std::string& path, int64_t limit) {
  const OpenedFile file = open_regular_file(path);
  struct Close {
    int descriptor;
    ~Close() { ::close(descriptor); }
  } close{file.descriptor};
  if (file.size > limit)
    fail(ExitCode::kBadInput, "is {} bytes, more than the {} that are read, {}, take the file it should be", file.size,
         limit, path);
  std::string text(static_cast<size_t>(file.size), '\0');
  read_exactly(file.descriptor, 0, text.data(), file.size, "the text", path);
  return text;
}

}  // namespace carillon
