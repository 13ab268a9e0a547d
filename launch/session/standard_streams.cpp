#include "launch/session/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/error.h"

namespace carillon {
namespace {

int reason_of_loss = 0;  // of the first loss

}  // namespace

void reserve_standard_descriptors() {
  // Writing to a descriptor opened for reading fails, as it should on a closed standard output. An output named
  // /dev/stdout opens the same device again, for writing: of these only /dev/full refuses what is written then.
  constexpr int kModes[] = {O_RDONLY, O_RDONLY, O_WRONLY};
  for (int descriptor = 0; descriptor < 3; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    int opened = -1;  // becomes the lowest free number: this one
    if (descriptor == STDOUT_FILENO) opened = open("/dev/full", kModes[descriptor]);
    if (opened < 0) opened = open("/dev/null", kModes[descriptor]);
    if (opened >= 0 && opened != descriptor) {
      dup2(opened, descriptor);
      close(opened);
    }
  }
}

void write_to_screen(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

void finish_standard_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 && reason_of_loss == 0) reason_of_loss = errno;
  bool lost = std::ferror(stdout) != 0 || reason_of_loss != 0;
  // A file system that writes late (NFS, a quota) reports errors when a descriptor is closed.
  const int copy = dup(STDOUT_FILENO);
  if (copy >= 0 && close(copy) != 0 && errno != EINTR) {
    lost = true;
    if (reason_of_loss == 0) reason_of_loss = errno;
  }
  if (lost)
    fail(ExitCode::kInputOutput, "cannot be written ({}), standard output, make room or name another place",
         reason_of_loss != 0 ? std::strerror(reason_of_loss) : "it is full, closed or without a reader");
}

Error naming_standard_output(const Error& error) {
  if (error.code() != ExitCode::kInputOutput || std::ferror(stdout) == 0) return error;
  try {
    finish_standard_output();
  } catch (const Error& clearer) {
    return clearer;
  }
  return error;
}

}  // namespace carillon
