// A file that appears whole or not at all: written under a temporary name in the same folder, synced and renamed by
// commit(). Destroyed without commit(), or after an error, nothing is left and what was at `path` stays.
// A symbolic link is followed; what exists and is no regular file (/dev/stdout, a pipe) is written straight.
// Error 73 when the file cannot be created, 74 when writing, syncing or renaming fails (a full disk); both name the
// path.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace carillon {

class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view bytes);                     // buffered, after what was written before
  void write_at(int64_t offset, std::string_view bytes);  // into a place already written
  int64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  [[noreturn]] void fail_with(const char* what) const;

  std::string path_;
  std::string temporary_;  // empty: written straight
  std::string buffer_;
  int64_t size_ = 0;
  int descriptor_ = -1;
};

// An empty file of a new name beside `path`, for writers that open files themselves; removed again unless commit()
// renamed it to `path`. A symbolic link is followed. Errors 73, also where `path` is a device, a pipe or a folder,
// and 74.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& name() const { return name_; }
  void commit();  // what was written is on the disk already

 private:
  std::string path_, name_;
};

// The whole of a small file, or nothing of it. Errors as OutputFile's.
void write_whole_file(const std::string& path, std::string_view text);

}  // namespace carillon
