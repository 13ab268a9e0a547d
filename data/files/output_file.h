// A file that appears completely or not at all: it is written under a temporary name in the same folder, then synced
// and renamed by commit(). If it is destroyed without commit(), or after an error, the new file is removed and the old
// content of `path` stays. A symbolic link is followed. An existing path that is not a regular file (/dev/stdout, a
// pipe) is written directly. Error 73 if the file cannot be created, 74 if writing, syncing or renaming fails (for
// example on a full disk); both name the path.
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

  void write(std::string_view bytes);                     // buffered; appends
  void write_at(int64_t offset, std::string_view bytes);  // overwrites bytes already written
  int64_t size() const { return size_; }
  void commit();

 private:
  void flush();
  [[noreturn]] void fail_with(const char* what) const;

  std::string path_;
  std::string temporary_;  // empty: written directly
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
  void commit();  // what was written must be durable already

 private:
  std::string path_, name_;
};

// Writes a whole small file, or nothing of it. Throws what OutputFile throws.
void write_whole_file(const std::string& path, std::string_view text);

}  // namespace carillon
