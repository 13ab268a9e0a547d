// Maps a file into memory instead of reading it: pages are loaded when they are touched, and all ranks of a node share
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace carillon {

class MappedFile {
 public:
  MappedFile() = default;
  // Maps it read-only. Error 66 if there is no such file, 65 if it is not a regular file, 74 if it cannot be read.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  // Tells the kernel that it may load bytes [begin, begin + length) now.
  void will_need(int64_t begin, int64_t length) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace carillon
