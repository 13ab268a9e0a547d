#include "data/files/mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "data/files/posix_file.h"
#include "runtime/error.h"

namespace carillon {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const InputFile file(path);
  size_ = file.size();
  if (size_ > 0) {
    void* data = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, file.descriptor(), 0);
    if (data == MAP_FAILED)
      fail(ExitCode::kInputOutput, "cannot be mapped ({}), {}, check the disk", std::strerror(errno), path);
    data_ = static_cast<const std::byte*>(data);
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
