// Files by system calls. These functions handle what no caller should have to repeat: calls interrupted by a signal and
// short reads or writes are continued, reads that the disk refuses are retried, and only regular files are opened
// (opening a FIFO or a device could block for ever).
//
// Error codes separate the cause from its meaning: 66 if the file does not exist, 65 if it is of another kind or too
// short (damage), 74 if the disk does not answer (no damage; a retry may help). NoSpace is a 74 caused by a full disk,
// a quota or a limit on the file size, so that the caller can skip a periodic checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace carillon {

class NoSpace : public Error {
 public:
  explicit NoSpace(const std::string& message) : Error(ExitCode::kInputOutput, message) {}
};

// ENOSPC, EDQUOT, EFBIG.
bool means_no_space(int reason);
// Throws "WHAT (reason), PATH, what to do" as NoSpace or Error 74, depending on `reason`, an errno.
[[noreturn]] void fail_to_write(const std::string& what, int reason, const std::string& path);
// The same for a file or folder that could not be created: 73 if the user has to change something (permissions, an
// impossible path), but 74 if the disk or its server did not answer and a retry may help.
[[noreturn]] void fail_to_create(const std::string& what, int reason, const std::string& path, const char* to_do);

enum class Links { kFollow, kRefuse };  // whether the last component of a path may be a symbolic link

// A regular file, open for reading. Also throws 65 for a refused link and 66 for a dangling one.
class InputFile {
 public:
  explicit InputFile(std::string path, Links links = Links::kFollow);
  ~InputFile();
  InputFile(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  int64_t size() const { return size_; }  // at the time of opening
  // Reads bytes [place, place + bytes). `what` ("tensor x"; may be empty) appears in the message. Error 65 if the file
  // ends early.
  void read(int64_t place, void* to, int64_t bytes, const std::string& what = "") const;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// Reads as many of the bytes as the file has; returns -1 with errno set if the disk keeps refusing.
int64_t read_up_to(int descriptor, int64_t place, void* to, int64_t bytes);

// Reads all of [place, place + bytes) or throws error 74 (the disk) or 65 (the file is too short); `what` and `path`
// appear in the message.
void read_exactly(int descriptor, int64_t place, void* to, int64_t bytes, const std::string& what,
                  const std::string& path);

// Reads a whole regular file of at most `limit` bytes (error 65 for a longer one).
inline constexpr int64_t kLargestTextFile = int64_t{512} << 20;
std::string read_whole_file(const std::string& path, int64_t limit = kLargestTextFile, Links links = Links::kFollow);

// Writes all bytes at `place`; returns 0, or the errno of the call that failed.
int write_all(int descriptor, int64_t place, const void* from, int64_t bytes);

// Opens a file for writing at any place; refuses symbolic links. Errors NoSpace and 74.
int open_to_write(const std::string& path, bool create);
// Makes a file, or the entries of a folder, durable. Errors NoSpace and 74.
void sync_path(const std::string& path);

// Writes a small file that appears completely or not at all. Anything at `path` (also a link or a FIFO) is replaced,
// not written into. The content is durable, the folder's entry not yet. Errors NoSpace, 73 and 74.
void replace_file(const std::string& path, std::string_view text);

// Creates an empty file PATH.tmp-HOST-PID-RANDOM and returns its path. The name is unique even among processes in other
// containers that share the folder. Errors NoSpace and 73.
std::string make_temporary(const std::string& path);

}  // namespace carillon
