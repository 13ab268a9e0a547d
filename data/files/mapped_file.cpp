#include "data/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/error.h"

namespace carillon {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) {
    const int reason = errno;
    fail(reason == ENOENT || reason == ENOTDIR ? ExitCode::kMissingInput : ExitCode::kInputOutput,
         "cannot be opened ({}), {}, correct the path", std::strerror(reason), path);
  }
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    fail(ExitCode::kBadInput, "is no regular file, {}, name a file", path);
  }
  size_ = status.st_size;
  if (size_ > 0) {
    void* data = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, descriptor, 0);
    const int reason = errno;
    close(descriptor);
    if (data == MAP_FAILED)
      fail(ExitCode::kInputOutput, "cannot be mapped ({}), {}, check the disk", std::strerror(reason), path);
    data_ = static_cast<const std::byte*>(data);
  } else {
    close(descriptor);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

void MappedFile::will_need(int64_t begin, int64_t length) const {
  if (data_ == nullptr || length <= 0) return;
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t from = begin / page * page;
  madvise(const_cast<std::byte*>(data_) + from, static_cast<size_t>(begin + length - from), MADV_WILLNEED);
}

}  // namespace carillon
