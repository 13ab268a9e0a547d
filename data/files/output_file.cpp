#include "data/files/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "data/files/posix_file.h"
#include "data/files/temporaries.h"
#include "runtime/check.h"

namespace carillon {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;  // one system call a mebibyte

// The file that a symbolic link leads to, there or not yet there. Of anything else the path itself, also of a link to
// what is no file: /dev/stdout leads to a pipe without a name.
std::string target_of(std::string path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) return path;
  std::string target = path;
  for (int links = 0; links < 40 && std::filesystem::is_symlink(target, error); ++links) {
    const auto next = std::filesystem::read_symlink(target, error);
    if (error) return path;
    target = (std::filesystem::path(target).parent_path() / next).string();
  }
  return target;
}

// A path at which there is nothing, or a regular file.
std::string replaceable(std::string path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    fail(ExitCode::kCannotCreate, "is not a regular file, and only a file can be written there, {}, name a file", path);
  return path;
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(target_of(std::move(path))) {
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail_to_create("cannot be opened to write", errno, path_, "make it writable");
  } else {
    temporary_ = make_temporary(path_);
    descriptor_ = open_to_write(temporary_, /*create=*/false);
  }
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  forget_temporary(temporary_);
}

void OutputFile::fail_with(const char* what) const { fail_to_write(std::string(what) + " failed", errno, path_); }

void OutputFile::write(std::string_view bytes) {
  buffer_.append(bytes);
  size_ += static_cast<int64_t>(bytes.size());
  if (buffer_.size() >= kBufferBytes) flush();
}

void OutputFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with("writing");
    done += static_cast<size_t>(written);
  }
  buffer_.clear();
}

void OutputFile::write_at(int64_t offset, std::string_view bytes) {
  flush();
  CHECK(offset + static_cast<int64_t>(bytes.size()) <= size_, "write_at beyond what was written", offset, size_);
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with("writing");
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
}

void OutputFile::commit() {
  CHECK(descriptor_ >= 0, "commit() once");
  flush();
  if (!temporary_.empty()) {
    int result = 0;
    do result = ::fsync(descriptor_);
    while (result != 0 && errno == EINTR);
    if (result != 0) fail_with("syncing");
  }
  if (!temporary_.empty() && std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with("renaming");
  if (!temporary_.empty()) forget_temporary(temporary_);
  const bool closed = ::close(descriptor_) == 0;
  descriptor_ = -1;
  if (!closed) fail_with("closing");
}

TemporaryFile::TemporaryFile(std::string path)
    : path_(replaceable(target_of(std::move(path)))), name_(make_temporary(path_)) {}

TemporaryFile::~TemporaryFile() {
  if (name_.empty()) return;
  ::unlink(name_.c_str());
  forget_temporary(name_);
}

void TemporaryFile::commit() {
  if (std::rename(name_.c_str(), path_.c_str()) != 0)
    fail_to_create("cannot be created", errno, path_, "check that the folder is writable");
  forget_temporary(name_);
  name_.clear();
}

void write_whole_file(const std::string& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace carillon
